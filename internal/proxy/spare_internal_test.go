package proxy

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"
	"unsafe"
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

// An address that has gone silent does not hold up those who would look its name
// up again.
func TestKnownAddressIsTriedBriefly(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const gone = "127.0.0.1:1"
	tried := 0
	s, err := New(Config{Router: RouterFunc(nil), Peer: PeerFunc(nil), DialTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	s.dialer.ControlContext = func(ctx context.Context, _, addr string, _ syscall.RawConn) error {
		if addr != gone {
			return nil
		}
		tried++
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > 2*time.Second {
			t.Errorf("it may take until %v", end)
		}
		return context.DeadlineExceeded
	}
	up := &Upstream{URL: "http://up", Host: "127.0.0.1", Port: uint16(l.Addr().(*net.TCPAddr).Port)}
	s.about(up).learnAddress(gone, time.Now())
	u, err := s.dialUpstream(t.Context(), up)
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
	if addr, ok := s.about(up).address(time.Now()); tried != 1 || !ok || addr != l.Addr().String() {
		t.Errorf("tried %d times; now known: %q", tried, addr)
	}
	s.closeAll()
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

// A token ages while the machine sleeps, when the clock of timers stands still,
// and is of no use when the clock on the wall has been set.
func TestTokensAgeInSleep(t *testing.T) {
	a := &advance{made: time.Now()}
	if age := a.age(a.made.Add(3 * time.Second)); age != 3*time.Second {
		t.Errorf("after 3 s: %v", age)
	}
	slept := a.made.Add(time.Hour)
	// The second word of a Time is what the clock of timers shows.
	*(*int64)(unsafe.Add(unsafe.Pointer(&slept), 8)) -= int64(time.Hour)
	if d := slept.Sub(a.made); d != 0 {
		t.Fatalf("the test does not know what a Time looks like: %v", d)
	}
	if age := a.age(slept); age < time.Hour {
		t.Errorf("after an hour of sleep: %v", age)
	}
	if age := a.age(a.made.Round(0).Add(-time.Hour)); age < time.Hour {
		t.Errorf("with the clock set back: %v", age)
	}
}

// A token that took long to make is wiped in time, wherever it stands.
func TestSpareThatTookLongExpiresInTime(t *testing.T) {
	s, err := New(Config{Router: RouterFunc(nil), Peer: PeerFunc(nil)})
	if err != nil {
		t.Fatal(err)
	}
	var k known
	now := time.Now()
	spare := func(age time.Duration) *upConn {
		c, other := net.Pipe()
		t.Cleanup(func() { other.Close() })
		return &upConn{s: s, Conn: c, ahead: &advance{made: now.Add(-age), header: []byte("secret")}}
	}
	young, old := spare(spareLife-10*time.Second), spare(spareLife)
	header := old.ahead.header
	k.spares.ready = []*upConn{young, old}
	s.expireSpares(&k, now)
	if len(k.spares.ready) != 1 || k.spares.ready[0] != young || string(header) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("left: %d spares, %q", len(k.spares.ready), header)
	}
	if k.spares.timer == nil {
		t.Error("nothing will come for the other")
	}
	k.spares.drop(true)
}

// deadlines is a connection that notes its deadline.
type deadlines struct {
	net.Conn
	until time.Time
}

func (d *deadlines) SetDeadline(t time.Time) error     { d.until = t; return nil }
func (d *deadlines) SetReadDeadline(t time.Time) error { d.until = t; return nil }

// A connection that waits for its client's next request has no deadline that
// could pass meanwhile, whether it waits for this client or for any.
func TestIdleConnectionHasNoDeadline(t *testing.T) {
	for name, pin := range map[string]bool{"pinned": true, "pooled": false} {
		t.Run(name, func(t *testing.T) {
			s, err := New(Config{Router: RouterFunc(nil), Peer: PeerFunc(nil)})
			if err != nil {
				t.Fatal(err)
			}
			ours, other := net.Pipe()
			defer other.Close()
			d := &deadlines{Conn: ours}
			u := &upConn{s: s, Conn: d}
			u.SetReadDeadline(time.Now().Add(time.Second)) // as stream does
			(&session{s: s}).keep(u, true, pin)
			if !d.until.IsZero() {
				t.Errorf("it ends in %v", time.Until(d.until))
			}
			s.pool.close()
		})
	}
}
