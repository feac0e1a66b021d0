package ticket

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestTickerNeverRepeats(t *testing.T) {
	var tick ticker
	now, last := time.Now(), time.Time{}
	for range 1000 {
		next := tick.next(now) // the clock stands still
		if !next.After(last) || next.Sub(now).Abs() > 2*time.Millisecond {
			t.Fatalf("%v after %v at %v", next, last, now)
		}
		last = next
	}
	if next := tick.next(now.Add(-500 * time.Millisecond)); !next.After(last) {
		t.Errorf("%v after %v, with a clock half a second behind", next, last)
	}
	back := now.Add(-10 * time.Minute)
	if next := tick.next(back); next.Sub(back).Abs() > time.Millisecond {
		t.Errorf("%v at %v: the clock was set back, and no server would take that", next, back)
	}
}

// serviceTicket is a ticket that looks like one, with a key of encryption type
// e.
func serviceTicket(e EncType) ServiceTicket {
	sizes := map[EncType]int{17: 16, 18: 32, 19: 16, 20: 32, 23: 16, 16: 24}
	return ServiceTicket{
		Client: []string{"alice"}, ClientType: 1, Realm: "CORP.EXAMPLE",
		DER: tlv(0x61, bytes.Repeat([]byte{7}, 700)), EncType: e, Key: bytes.Repeat([]byte{1}, sizes[e]),
	}
}

func TestNewMakerRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change      func(*ServiceTicket)
		unsupported bool
	}{
		"RC4":                {func(s *ServiceTicket) { *s = serviceTicket(23) }, true},
		"DES":                {func(s *ServiceTicket) { *s = serviceTicket(16) }, true},
		"no encryption type": {func(s *ServiceTicket) { s.EncType = 0 }, true},
		"short key":          {func(s *ServiceTicket) { s.Key = s.Key[:16] }, false},
		"no key":             {func(s *ServiceTicket) { s.Key = nil }, false},
		"no client":          {func(s *ServiceTicket) { s.Client = nil }, false},
		"no realm":           {func(s *ServiceTicket) { s.Realm = "" }, false},
		"no ticket":          {func(s *ServiceTicket) { s.DER = nil }, false},
		"ticket cut off":     {func(s *ServiceTicket) { s.DER = s.DER[:100] }, false},
		"more than a ticket": {func(s *ServiceTicket) { s.DER = append(s.DER, 0) }, false},
		"another thing":      {func(s *ServiceTicket) { s.DER[0] = 0x62 }, false},
		"too large a ticket": {func(s *ServiceTicket) { s.DER = tlv(0x61, make([]byte, maxTicketDER)) }, false},
	} {
		s := serviceTicket(18)
		tt.change(&s)
		if m, err := NewMaker(s); m != nil || err == nil || errors.Is(err, errors.ErrUnsupported) != tt.unsupported {
			t.Errorf("%s: got %v, %v", name, m, err)
		}
	}
}

// A maker does not look again at what it was made of.
func TestMakerKeepsNoKey(t *testing.T) {
	for _, e := range []EncType{17, 18, 19, 20} {
		s := serviceTicket(e)
		m, err := NewMaker(s)
		if err != nil {
			t.Fatal(err)
		}
		stamp, confounder := time.Now(), make([]byte, 16)
		before := m.token(stamp, 1, confounder)
		clear(s.Key)
		clear(s.DER)
		m.macs.Get() // with the MAC that was in use, if it is still there
		if after := m.token(stamp, 1, confounder); !bytes.Equal(before, after) {
			t.Errorf("%v: the token depends on what was cleared", e)
		}
	}
}

// A token is two allocations, and now and then scratch space: more often with
// the race detector, which empties pools. By reflection it was 700.
func TestTokenAllocates(t *testing.T) {
	m, err := NewMaker(serviceTicket(18))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { m.Token(0) }); n > 10 {
		t.Errorf("%v allocations per token, want 2", n)
	}
}

func BenchmarkMaker(b *testing.B) {
	for _, e := range []EncType{17, 18, 19, 20} {
		m, err := NewMaker(serviceTicket(e))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(e.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Token(0)
			}
		})
		b.Run(e.String()+" parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m.Token(0)
				}
			})
		})
	}
}
