//go:build windows

package sspi

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

// queries in the order in which they are tried: what a Windows does not know,
// or does not allow, it refuses.
var queries = []query{queryEx3, queryEx2, queryEx, queryBasic}

// Go loads secur32.dll, by this name, from the system's folder only.
var (
	secur32         = syscall.NewLazyDLL("secur32.dll")
	lsaConnect      = secur32.NewProc("LsaConnectUntrusted")
	lsaLookup       = secur32.NewProc("LsaLookupAuthenticationPackage")
	lsaCall         = secur32.NewProc("LsaCallAuthenticationPackage")
	lsaFree         = secur32.NewProc("LsaFreeReturnBuffer")
	lsaDisconnect   = secur32.NewProc("LsaDeregisterLogonProcess")
	lsaRequirements = []*syscall.LazyProc{lsaConnect, lsaLookup, lsaCall, lsaFree, lsaDisconnect}
)

// maxReply bounds the copy of a reply: ten thousand tickets fit.
const maxReply = 8 << 20

// lsa is a connection to the Kerberos package of the LSA.
type lsa struct {
	handle uintptr
	pack   uint32
}

func connect() (*lsa, error) {
	var c lsa
	if code, _, _ := lsaConnect.Call(uintptr(unsafe.Pointer(&c.handle))); code != 0 {
		return nil, fmt.Errorf("connect to the LSA: %w", statusError(uint32(code)))
	}
	text := []byte("Kerberos\x00")
	name := struct { // LSA_STRING, without the NUL in its length
		length, capacity uint16
		text             *byte
	}{uint16(len(text) - 1), uint16(len(text)), &text[0]}
	code, _, _ := lsaLookup.Call(c.handle, uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&c.pack)))
	if code != 0 {
		c.close()
		return nil, fmt.Errorf("look for Kerberos in the LSA: %w", statusError(uint32(code)))
	}
	return &c, nil
}

func (c *lsa) close() { lsaDisconnect.Call(c.handle) }

// call sends a request, which render makes for the address it will lie at, and
// returns a copy of the reply and the address that it lay at.
func (c *lsa) call(render func(base uint64) []byte) (reply []byte, base uint64, err error) {
	request := make([]byte, len(render(0)))
	var pin runtime.Pinner // the request holds its own address, which must stay
	pin.Pin(&request[0])
	defer pin.Unpin()
	copy(request, render(uint64(uintptr(unsafe.Pointer(&request[0])))))

	var (
		answer         unsafe.Pointer // the LSA's memory, not Go's
		size           uint32
		protocolStatus uint32
	)
	code, _, _ := lsaCall.Call(c.handle, uintptr(c.pack),
		uintptr(unsafe.Pointer(&request[0])), uintptr(len(request)),
		uintptr(unsafe.Pointer(&answer)), uintptr(unsafe.Pointer(&size)), uintptr(unsafe.Pointer(&protocolStatus)))
	if answer != nil {
		defer lsaFree.Call(uintptr(answer))
	}
	switch {
	case code != 0:
		return nil, 0, statusError(uint32(code))
	case protocolStatus != 0:
		return nil, 0, statusError(protocolStatus)
	case answer == nil || size > maxReply:
		return nil, 0, fmt.Errorf("the LSA's reply of %d bytes cannot be used", size)
	}
	there := unsafe.Slice((*byte)(answer), size)
	reply = append(reply, there...)
	clear(there) // may hold a session key
	return reply, uint64(uintptr(answer)), nil
}

// tickets lists the cache of this sign-in session.
func (c *lsa) tickets() (list []entry, err error) {
	for _, q := range queries {
		var (
			reply []byte
			base  uint64
		)
		reply, base, err = c.call(func(uint64) []byte { return listing(q) })
		if err == nil {
			list, err = parseReply(q, reply, base)
		}
		if err == nil {
			return list, nil
		}
	}
	return nil, err
}

// refresh asks for a new TGT of realm, past the cache.
func (c *lsa) refresh(realm string) error {
	reply, _, err := c.call(func(base uint64) []byte { return retrieval(tgtService+realm, base) })
	clear(reply)
	return err
}

// purge throws all tickets away.
func (c *lsa) purge() error {
	_, _, err := c.call(func(uint64) []byte { return purging() })
	return err
}

// withLSA runs do on a connection of its own.
func withLSA(do func(*lsa) error) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.close()
	return do(c)
}

// whoami asks Windows for its user. A name that is not to be had is empty.
func whoami() account {
	const nameSamCompatible, nameUserPrincipal = 2, 8
	name := func(format uint32) string {
		buf := make([]uint16, 1024)
		size := uint32(len(buf))
		if err := syscall.GetUserNameEx(format, &buf[0], &size); err != nil {
			return ""
		}
		return syscall.UTF16ToString(buf)
	}
	return account{upn: name(nameUserPrincipal), sam: name(nameSamCompatible)}
}

// findAll reports the first function that this Windows lacks; calling it would
// panic.
func findAll(procs []*syscall.LazyProc) error {
	for _, p := range procs {
		if err := p.Find(); err != nil {
			return errors.Join(errors.ErrUnsupported, err)
		}
	}
	return nil
}
