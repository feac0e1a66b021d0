//go:build linux && !nogss

package gss

import (
	"testing"
	"time"
	"unsafe"
)

// A maker's time is the KDC's, and over a second early: acceptors count in
// whole seconds.
func TestMakingValid(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		start, end, offset time.Duration
		want               bool
	}{
		{-time.Hour, time.Hour, 0, true},
		{-time.Hour, 2 * time.Second, 0, true},
		{-time.Hour, time.Second / 2, 0, false},
		{-time.Hour, -time.Second, 0, false},
		{time.Minute, time.Hour, 0, false},
		{time.Minute, time.Hour, 2 * time.Minute, true},
		{-time.Hour, time.Minute, 2 * time.Minute, false},
		{-time.Hour, -time.Minute, -time.Minute, false},
		{-3 * time.Hour, -time.Minute, -2 * time.Hour, true},
	} {
		k := &making{start: now.Add(tt.start), end: now.Add(tt.end), offset: tt.offset}
		if got := k.valid(now); got != tt.want {
			t.Errorf("from %v to %v, offset %v: got %v, want %v", tt.start, tt.end, tt.offset, got, tt.want)
		}
	}
}

// Lengths that cannot be right, and pointers that lead nowhere, are not followed.
func TestCredBytes(t *testing.T) {
	value := []byte("a session key")
	for _, o := range []credLayout{mitCreds, heimdalCreds} {
		c := new(cred)
		*(*uint32)(unsafe.Add(unsafe.Pointer(c), o.keyLength)) = uint32(len(value))
		if got := o.key(c); got != nil {
			t.Errorf("no pointer: got %q", got)
		}
		*(*handle)(unsafe.Add(unsafe.Pointer(c), o.keyData)) = unsafe.Pointer(&value[0])
		if got := o.key(c); string(got) != string(value) {
			t.Errorf("got %q, want %q", got, value)
		}
		*(*uint32)(unsafe.Add(unsafe.Pointer(c), o.keyLength)) = 1 << 30
		if got := o.key(c); got != nil {
			t.Errorf("a key of 1 GB: got %d bytes", len(got))
		}
	}
}
