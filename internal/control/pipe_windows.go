//go:build windows

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	pipePrefix  = `\\.\pipe\`
	maxPipeName = 256 // characters, all in all
	backlog     = 16  // clients that can connect before they are accepted

	pipeAccessDuplex      = 0x3
	firstPipeInstance     = 0x80000
	pipeRejectRemote      = 0x8
	pipeUnlimited         = 255
	pipeBuffer            = 64 << 10
	securityIdentify      = 0x100000 | 0x10000 // SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION
	sddlRevision          = 1
	waitForever           = 0xffffffff
	firstPause            = 4 * time.Millisecond // at most, while the pipe is busy
	longestPause          = 100 * time.Millisecond
	errPipeBusy           = syscall.Errno(231)
	errPipeConnected      = syscall.Errno(535)
	descriptorOfOwnerOnly = "O:%[1]sD:P(D;;GA;;;NU)(A;;GA;;;%[1]s)" // NU: whoever came over the network
)

var (
	kernel32                   = syscall.NewLazyDLL("kernel32.dll")
	procCreateNamedPipe        = kernel32.NewProc("CreateNamedPipeW")
	procConnectNamedPipe       = kernel32.NewProc("ConnectNamedPipe")
	procGetOverlappedResult    = kernel32.NewProc("GetOverlappedResult")
	procWaitForMultipleObjects = kernel32.NewProc("WaitForMultipleObjects")
	procCreateEvent            = kernel32.NewProc("CreateEventW")
	procSetEvent               = kernel32.NewProc("SetEvent")
	procCreateMutex            = kernel32.NewProc("CreateMutexW")

	procConvertDescriptor = syscall.NewLazyDLL("advapi32.dll").NewProc("ConvertStringSecurityDescriptorToSecurityDescriptorW")
)

// channelPath names the pipe after the user, because every session of the
// machine sees the same pipes.
func channelPath(func(name string) (string, bool)) (string, error) {
	sid, err := ownSID()
	if err != nil {
		return "", fmt.Errorf("name of the control pipe: %w", err)
	}
	return pipePrefix + "kerbpass-" + sid, nil
}

func ownSID() (string, error) {
	token, err := syscall.OpenCurrentProcessToken()
	if err != nil {
		return "", fmt.Errorf("own user: %w", err)
	}
	defer token.Close()
	user, err := token.GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("own user: %w", err)
	}
	return user.User.Sid.String()
}

func pipeName(path string) (*uint16, error) {
	name, ok := strings.CutPrefix(path, pipePrefix)
	if !ok || name == "" || strings.Contains(name, `\`) || len(path) > maxPipeName {
		return nil, fmt.Errorf("%q is not the name of a pipe", path)
	}
	return syscall.UTF16PtrFromString(path)
}

// listen implements [Listen]. A mutex beside the pipe decides who may listen;
// the system drops it with the process, however that ends.
func listen(path string) (net.Listener, error) {
	name, err := pipeName(path)
	if err != nil {
		return nil, err
	}
	l := &pipeListener{path: path, name: name}
	if err := l.open(); err != nil {
		l.free()
		return nil, fmt.Errorf("control pipe %s: %w", path, err)
	}
	return l, nil
}

// pipeListener is a pipe with instances that wait for clients.
// It must be closed: until then the system writes to the instances.
type pipeListener struct {
	path       string
	name       *uint16
	security   syscall.SecurityAttributes
	descriptor syscall.Handle // what security points to

	mutex     syscall.Handle // held: no other process listens
	closing   syscall.Handle // event: Close has been called
	closeOnce sync.Once

	mu      sync.Mutex // guards what follows, one Accept at a time
	closed  bool
	waiting []*instance
}

func (l *pipeListener) open() (err error) {
	if err := l.protect(); err != nil {
		return fmt.Errorf("security descriptor: %w", err)
	}
	if l.mutex, err = l.createMutex(); err != nil {
		return err
	}
	if l.closing, err = createEvent(); err != nil {
		return err
	}
	err = l.addInstance(firstPipeInstance)
	if errors.Is(err, syscall.ERROR_ACCESS_DENIED) {
		return fmt.Errorf("%w (%v)", ErrRunning, err) // in another session of this user
	}
	return err
}

// protect makes the descriptor that lets in this user from this machine only.
func (l *pipeListener) protect() error {
	sid, err := ownSID()
	if err != nil {
		return err
	}
	text, err := syscall.UTF16PtrFromString(fmt.Sprintf(descriptorOfOwnerOnly, sid))
	if err != nil {
		return err
	}
	if ok, _, err := procConvertDescriptor.Call(uintptr(unsafe.Pointer(text)), sddlRevision,
		uintptr(unsafe.Pointer(&l.descriptor)), 0); ok == 0 {
		return err
	}
	l.security.Length = uint32(unsafe.Sizeof(l.security))
	l.security.SecurityDescriptor = uintptr(l.descriptor)
	return nil
}

func (l *pipeListener) createMutex() (syscall.Handle, error) {
	name, err := syscall.UTF16PtrFromString(`Local\` + strings.TrimPrefix(l.path, pipePrefix))
	if err != nil {
		return 0, err
	}
	h, _, err := procCreateMutex.Call(uintptr(unsafe.Pointer(&l.security)), 0, uintptr(unsafe.Pointer(name)))
	switch {
	case h == 0:
		return 0, fmt.Errorf("mutex: %w", err)
	case errors.Is(err, syscall.ERROR_ALREADY_EXISTS):
		syscall.CloseHandle(syscall.Handle(h))
		return 0, ErrRunning
	}
	return syscall.Handle(h), nil
}

// Accept implements [net.Listener].
func (l *pipeListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.closed {
			return nil, l.opError(net.ErrClosed)
		}
		for len(l.waiting) < backlog {
			if err := l.addInstance(0); err != nil && len(l.waiting) == 0 {
				return nil, l.opError(err)
			} else if err != nil {
				break // the next Accept tries again
			}
		}
		in, err := l.next()
		if err != nil {
			return nil, l.opError(err)
		}
		l.waiting = slices.DeleteFunc(l.waiting, func(w *instance) bool { return w == in })
		if err := in.result(); err != nil {
			in.free() // its client has gone again; an instance serves one only
			continue
		}
		return newPipeConn(in.detach(), l.path), nil
	}
}

func (l *pipeListener) opError(err error) error {
	return &net.OpError{Op: "accept", Net: pipeAddr("").Network(), Addr: pipeAddr(l.path), Err: err}
}

// next waits until a client has one of the instances or Close is called. l.mu
// is held.
func (l *pipeListener) next() (*instance, error) {
	events := [backlog + 1]syscall.Handle{l.closing}
	for i, in := range l.waiting {
		events[i+1] = in.pending.HEvent
	}
	first, _, err := procWaitForMultipleObjects.Call(uintptr(len(l.waiting)+1), uintptr(unsafe.Pointer(&events)), 0, waitForever)
	switch i := int(first) - syscall.WAIT_OBJECT_0 - 1; {
	case i == -1:
		return nil, net.ErrClosed
	case i < 0 || i >= len(l.waiting):
		return nil, fmt.Errorf("wait for a client: %w", err)
	default:
		return l.waiting[i], nil
	}
}

// An instance is an end of the pipe that one client can connect to.
type instance struct {
	pipe    syscall.Handle
	pending syscall.Overlapped // written by the system until its event is set
	started error              // what starting to wait said
}

// addInstance makes an instance and lets it wait.
func (l *pipeListener) addInstance(flags uintptr) error {
	event, err := createEvent()
	if err != nil {
		return err
	}
	pipe, _, err := procCreateNamedPipe.Call(uintptr(unsafe.Pointer(l.name)),
		pipeAccessDuplex|syscall.FILE_FLAG_OVERLAPPED|flags, pipeRejectRemote, // bytes, blocking
		pipeUnlimited, pipeBuffer, pipeBuffer, 0, uintptr(unsafe.Pointer(&l.security)))
	if syscall.Handle(pipe) == syscall.InvalidHandle {
		syscall.CloseHandle(event)
		return err
	}
	in := &instance{pipe: syscall.Handle(pipe), pending: syscall.Overlapped{HEvent: event}}
	in.start()
	l.waiting = append(l.waiting, in)
	return nil
}

// start begins to wait for a client. The event is set once there is a result.
func (in *instance) start() {
	ok, _, err := procConnectNamedPipe.Call(uintptr(in.pipe), uintptr(unsafe.Pointer(&in.pending)))
	if ok != 0 || errors.Is(err, errPipeConnected) {
		err = nil
	}
	in.started = err
	if !in.isPending() {
		_, _, _ = procSetEvent.Call(uintptr(in.pending.HEvent)) // fails only for what is no event
	}
}

func (in *instance) isPending() bool { return errors.Is(in.started, syscall.ERROR_IO_PENDING) }

// result waits until the waiting is over, and returns nil if there is a client.
func (in *instance) result() error {
	if !in.isPending() {
		return in.started
	}
	const untilOver = 1
	var none uint32
	ok, _, err := procGetOverlappedResult.Call(uintptr(in.pipe), uintptr(unsafe.Pointer(&in.pending)),
		uintptr(unsafe.Pointer(&none)), untilOver)
	if ok == 0 {
		return err
	}
	return nil
}

// detach hands the pipe over, once result has been called.
func (in *instance) detach() syscall.Handle {
	syscall.CloseHandle(in.pending.HEvent)
	return in.pipe
}

// free ends the waiting and closes the pipe.
func (in *instance) free() {
	_ = syscall.CancelIoEx(in.pipe, &in.pending)
	_ = in.result() // in.pending must not be written to any more
	syscall.CloseHandle(in.detach())
}

// Close implements [net.Listener].
func (l *pipeListener) Close() error {
	err := net.ErrClosed
	l.closeOnce.Do(func() {
		_, _, _ = procSetEvent.Call(uintptr(l.closing)) // fails only for what is no event
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = true
		l.free()
		err = nil
	})
	return err
}

// free gives back what open and Accept have got, the mutex last.
func (l *pipeListener) free() {
	for _, in := range l.waiting {
		in.free()
	}
	l.waiting = nil
	for _, h := range []syscall.Handle{l.closing, l.mutex} {
		if h != 0 {
			syscall.CloseHandle(h)
		}
	}
	if l.descriptor != 0 {
		_, _ = syscall.LocalFree(l.descriptor)
	}
}

// Addr implements [net.Listener].
func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.path) }

func createEvent() (syscall.Handle, error) {
	const manual, unset = 1, 0
	h, _, err := procCreateEvent.Call(0, manual, unset, 0)
	if h == 0 {
		return 0, fmt.Errorf("event: %w", err)
	}
	return syscall.Handle(h), nil
}

// dial connects to the pipe at path. Whoever serves it may ask who we are, but
// not act in our name.
func dial(ctx context.Context, path string) (net.Conn, error) {
	name, err := pipeName(path)
	if err != nil {
		return nil, err
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
			syscall.OPEN_EXISTING, syscall.FILE_FLAG_OVERLAPPED|securityIdentify, 0)
		switch {
		case err == nil:
			return newPipeConn(h, path), nil
		case errors.Is(err, syscall.ERROR_FILE_NOT_FOUND):
			return nil, fmt.Errorf("%w (%v)", ErrNotRunning, err)
		case !errors.Is(err, errPipeBusy):
			return nil, &net.OpError{Op: "dial", Net: pipeAddr("").Network(), Addr: pipeAddr(path), Err: err}
		}
		// WaitNamedPipe would wake all who wait for one instance, and not
		// obey ctx.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(rand.N(pause)):
		}
	}
}

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// pipeConn is one end of a connection. An [os.File] knows overlapped handles,
// and with them deadlines and a Close that ends what is under way.
type pipeConn struct {
	file *os.File
	addr pipeAddr
}

func newPipeConn(h syscall.Handle, path string) *pipeConn {
	return &pipeConn{os.NewFile(uintptr(h), path), pipeAddr(path)}
}

func (c *pipeConn) Read(b []byte) (int, error) {
	n, err := c.file.Read(b)
	return n, c.opError("read", err)
}

func (c *pipeConn) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	return n, c.opError("write", err)
}

// opError makes a file's error a connection's, which says whether it is a
// time-out and names the pipe once.
func (c *pipeConn) opError(op string, err error) error {
	var inner *os.PathError
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, os.ErrClosed):
		err = net.ErrClosed
	case errors.As(err, &inner):
		err = inner.Err
	}
	return &net.OpError{Op: op, Net: c.addr.Network(), Addr: c.addr, Err: err}
}

func (c *pipeConn) Close() error { return c.opError("close", c.file.Close()) }

func (c *pipeConn) LocalAddr() net.Addr           { return c.addr }
func (c *pipeConn) RemoteAddr() net.Addr          { return c.addr }
func (c *pipeConn) SetDeadline(t time.Time) error { return c.opError("set", c.file.SetDeadline(t)) }
func (c *pipeConn) SetReadDeadline(t time.Time) error {
	return c.opError("set", c.file.SetReadDeadline(t))
}
func (c *pipeConn) SetWriteDeadline(t time.Time) error {
	return c.opError("set", c.file.SetWriteDeadline(t))
}

// SyscallConn implements [syscall.Conn]: a peer check needs the handle.
func (c *pipeConn) SyscallConn() (syscall.RawConn, error) { return c.file.SyscallConn() }
