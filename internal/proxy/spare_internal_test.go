package proxy

import (
	"testing"
	"time"
)

// A spare that cannot be made is tried again after 1 s, 2 s, 4 s … 30 s, and
// at once after one was of use.
func TestSparesAreMadeEverMoreRarely(t *testing.T) {
	var sp spares
	now := time.Now()
	sp.rate, sp.asked = 3, now
	if n := sp.missing(8, now); n != 3 {
		t.Fatalf("%d missing, want as many as were asked for lately", n)
	}
	if n := sp.missing(8, now); n != 0 {
		t.Fatalf("%d missing while 3 are under way", n)
	}
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		sp.making = 0
		sp.lost(now)
		if n := sp.missing(8, now.Add(wait*time.Second-time.Millisecond)); n != 0 {
			t.Errorf("made again before %d s", wait)
		}
		if now = now.Add(wait * time.Second); sp.missing(8, now) == 0 {
			t.Errorf("not made again after %d s", wait)
		}
	}
	sp.making = 0
	sp.lost(now)
	sp.used()
	if sp.missing(8, now) == 0 {
		t.Error("a success does not count")
	}
}

// What is dropped is wiped.
func TestAdvanceIsWiped(t *testing.T) {
	line := []byte("Proxy-Authorization: Negotiate c2VjcmV0\r\n")
	(&advance{header: line}).drop()
	for _, b := range line {
		if b != 0 {
			t.Fatalf("left behind: %q", line)
		}
	}
}

// Credentials that went stale are told from an upstream that wants a token on
// every request.
func TestStaleIsNotPerRequest(t *testing.T) {
	var k known
	k.challenged(true)
	if k.wantsEach() {
		t.Error("a connection that had served without a token makes it per request")
	}
	k.servedBare()
	k.challenged(false)
	if k.wantsEach() {
		t.Error("one connection outweighs the others")
	}
	k.servedBare()
	k.challenged(false)
	if k.wantsEach() {
		t.Error("a success in between does not count")
	}
	k.challenged(false)
	if !k.wantsEach() {
		t.Error("an upstream that changed its ways is not noticed")
	}
	var fresh known
	fresh.challenged(false)
	if !fresh.wantsEach() {
		t.Error("one 407 to the first request without a token is not enough")
	}
}

// A name's address is believed for five seconds, and not after a failure.
func TestUpstreamAddressIsForgotten(t *testing.T) {
	var k known
	now := time.Now()
	if _, ok := k.address(now); ok {
		t.Error("an address out of nowhere")
	}
	k.learnAddress(k.addr, now)
	if _, ok := k.address(now.Add(4 * time.Second)); !ok {
		t.Error("forgotten within five seconds")
	}
	if _, ok := k.address(now.Add(5 * time.Second)); ok {
		t.Error("believed for longer than five seconds")
	}
	k.learnAddress(k.addr, now)
	k.forgetAddress()
	if _, ok := k.address(now); ok {
		t.Error("believed after a failure")
	}
}

// A deadline is moved only when it is too near or too far.
func TestBoundIsExtendedRarely(t *testing.T) {
	var b bound
	now := time.Now()
	until, ok := b.extend(now, time.Minute)
	if !ok || until.Sub(now) < time.Minute {
		t.Fatalf("first: %v, %v", until.Sub(now), ok)
	}
	for i := range 7 {
		if _, ok := b.extend(now.Add(time.Duration(i)*time.Second), time.Minute); ok {
			t.Errorf("moved after %d s", i)
		}
	}
	if until, ok := b.extend(now.Add(8*time.Second), time.Minute); !ok || until.Sub(now) < 68*time.Second {
		t.Error("not moved when too near")
	}
	if _, ok := b.extend(now.Add(8*time.Second), time.Second); !ok {
		t.Error("not moved when too far")
	}
	b.unsure = true
	if _, ok := b.extend(now.Add(8*time.Second), time.Second); !ok {
		t.Error("not set again after somebody else did")
	}
}
