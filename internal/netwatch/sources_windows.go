//go:build windows

package netwatch

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"
)

func systemSources() []source {
	return []source{
		{"interfaces", mib("NotifyIpInterfaceChange", Link).run},
		{"addresses", mib("NotifyUnicastIpAddressChange", Address).run},
		{"routes", mib("NotifyRouteChange2", Route).run},
		{"power", power.run},
	}
}

// A subscription to a kind of callback. Windows calls from threads of its own;
// the callback only leaves a mark, and a goroutine of ours reports.
type subscription struct {
	reason           string
	register, cancel *syscall.LazyProc
	call             func(register *syscall.LazyProc, token uintptr, handle *uintptr) (status uintptr)
}

func (s subscription) run(ctx context.Context, log *slog.Logger, report func(string)) error {
	for _, p := range []*syscall.LazyProc{s.register, s.cancel} {
		if err := p.Find(); err != nil { // Call would panic
			return err
		}
	}
	token, happened := listeners.add(s.reason)
	defer listeners.remove(token)
	var handle uintptr
	if status := s.call(s.register, token, &handle); status != 0 {
		return fmt.Errorf("%s: %w", s.register.Name, syscall.Errno(status))
	}
	// It waits for callbacks under way, which never wait for us.
	defer s.cancel.Call(handle)
	log.Debug("watching")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-happened:
			report(s.reason)
		}
	}
}

// mib subscribes to one of the IP Helper's change notifications, which share
// their signature but for the row, which is not looked at.
func mib(name, reason string) subscription {
	return subscription{
		reason:   reason,
		register: iphlpapi.NewProc(name),
		cancel:   iphlpapi.NewProc("CancelMibChangeNotify2"),
		call: func(register *syscall.LazyProc, token uintptr, handle *uintptr) uintptr {
			const anyFamily, noInitial = 0, 0
			status, _, _ := register.Call(anyFamily, mibCallback(), token, noInitial, uintptr(unsafe.Pointer(handle)))
			return status
		},
	}
}

// mibCallback is made once: the runtime never frees a callback and has room
// for 2000.
var mibCallback = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(token, row, kind uintptr) uintptr {
		const parameter = 0 // MibParameterNotification; 1 is added, 2 deleted
		// A route whose metric or age changes is still the same way.
		listeners.tell(token, func(reason string) bool { return reason != Route || uint32(kind) != parameter })
		return 0
	})
})

// power subscribes to the end of sleep (Windows 8 and later; no window needed).
var power = subscription{
	reason:   Resume,
	register: powrprof.NewProc("PowerRegisterSuspendResumeNotification"),
	cancel:   powrprof.NewProc("PowerUnregisterSuspendResumeNotification"),
	call: func(register *syscall.LazyProc, token uintptr, handle *uintptr) uintptr {
		const deviceNotifyCallback = 2
		recipient := struct{ callback, context uintptr }{powerCallback(), token} // DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS; copied
		status, _, _ := register.Call(deviceNotifyCallback, uintptr(unsafe.Pointer(&recipient)), uintptr(unsafe.Pointer(handle)))
		return status
	},
}

var powerCallback = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(token, event, setting uintptr) uintptr {
		const resumeAutomatic = 0x12 // PBT_APMRESUMEAUTOMATIC: sent at every resume, with a person or not
		listeners.tell(token, func(string) bool { return uint32(event) == resumeAutomatic })
		return 0
	})
})

// listeners find the channel for the token a callback was registered with. A
// Go pointer must not be left with C, and a callback may come after the end.
var listeners = registry{byToken: map[uintptr]listener{}}

type listener struct {
	reason   string
	happened chan struct{} // capacity 1: one mark says it all
}

type registry struct {
	mu      sync.Mutex // guards all below
	last    uintptr
	byToken map[uintptr]listener
}

func (r *registry) add(reason string) (token uintptr, happened <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	l := listener{reason, make(chan struct{}, 1)}
	r.byToken[r.last] = l
	return r.last, l.happened
}

func (r *registry) remove(token uintptr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byToken, token)
}

func (r *registry) tell(token uintptr, counts func(reason string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l, ok := r.byToken[token]; ok && counts(l.reason) {
		select {
		case l.happened <- struct{}{}:
		default:
		}
	}
}

var (
	iphlpapi = syscall.NewLazyDLL(systemFile("iphlpapi.dll"))
	powrprof = syscall.NewLazyDLL(systemFile("powrprof.dll"))
)

// systemFile returns the path of a system library. By its bare name Windows
// would first look beside the program, where a download folder may hold
// another one.
func systemFile(name string) string {
	var buf [syscall.MAX_PATH]uint16
	n, _, _ := syscall.NewLazyDLL("kernel32.dll").NewProc("GetSystemDirectoryW").Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if n == 0 || int(n) > len(buf) {
		return `C:\Windows\System32\` + name
	}
	return filepath.Join(syscall.UTF16ToString(buf[:n]), name)
}
