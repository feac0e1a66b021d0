package proxy

import (
	"testing"
	"time"
)

// A refused ticket is tried again after 5 s, 10 s, 20 s …, never more often, so
// that a moment's trouble of the upstream does not last.
func TestRefusedTicketIsProbedEverMoreRarely(t *testing.T) {
	k := &known{}
	now := time.Now()
	k.judged(false, 1, now)
	if !k.mayOffer(1, now) {
		t.Fatal("one refusal is enough")
	}
	k.judged(false, 1, now)
	for _, wait := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
		if k.mayOffer(1, now.Add(wait-time.Millisecond)) {
			t.Errorf("offered before %v", wait)
		}
		if now = now.Add(wait); !k.mayOffer(1, now) {
			t.Errorf("not offered after %v", wait)
		}
		k.judged(false, 1, now)
	}
	for range 10 {
		k.judged(false, 1, now)
	}
	if !k.mayOffer(1, now.Add(lastProbe)) {
		t.Errorf("not offered after %v", lastProbe)
	}
	if !k.mayOffer(2, now) {
		t.Error("another ticket pays for the old one")
	}
	k.judged(true, 1, now)
	k.judged(false, 1, now)
	if !k.mayOffer(1, now) {
		t.Error("a success does not count")
	}
}
