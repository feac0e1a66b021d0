package tickettest

import (
	"context"
	"testing"
	"time"
)

var watchCases = []testCase{
	{name: "watch", run: testWatch},
	{name: "watch, switch", needs: func(w World) bool { return w.Beside != nil && w.Switch != nil }, run: testWatchSwitch},
}

// A watch is a running Watch.
type watch struct {
	changed chan struct{} // capacity 1: something has changed since the last look
	ended   chan error
	stop    context.CancelFunc
}

// startWatch returns once the watch is seen to work: nothing tells when it has
// begun, so tickets are made until it calls.
func (s suite) startWatch(t *testing.T) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{changed: make(chan struct{}, 1), ended: make(chan error, 1), stop: cancel}
	go func() {
		w.ended <- s.b.Watch(ctx, func() {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		})
	}()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		s.w.SignIn(t, time.Hour)
		select {
		case <-w.changed:
			return w
		case err := <-w.ended:
			cancel()
			t.Fatalf("ended at once: %v", err)
		case <-time.After(noticed / 4):
		}
	}
	w.end(t)
	t.Fatal("does not call when tickets change")
	return nil
}

// sees checks that what is done to the tickets is told in time.
func (w *watch) sees(t *testing.T, what string, do func()) {
	t.Helper()
	select {
	case <-w.changed: // what came before
	default:
	}
	do()
	select {
	case <-w.changed:
	case <-time.After(noticed):
		t.Errorf("%s: not told within %v", what, noticed)
	}
}

func (w *watch) end(t *testing.T) {
	t.Helper()
	w.stop()
	select {
	case err := <-w.ended:
		if err != nil {
			t.Errorf("ended with %v, want nil", err)
		}
	case <-time.After(patience):
		t.Error("does not end with its context")
	}
}

func testWatch(t *testing.T, s suite) {
	w := s.startWatch(t)
	defer w.end(t)
	w.sees(t, "kinit", func() { s.w.SignIn(t, 2*time.Hour) })
	w.sees(t, "kdestroy", func() { s.w.SignOut(t) })
	w.sees(t, "kinit without a ticket", func() { s.w.SignIn(t, time.Hour) })
}

func testWatchSwitch(t *testing.T, s suite) {
	defer s.w.SignOut(t)
	w := s.startWatch(t)
	defer w.end(t)
	w.sees(t, "a second cache", func() { s.w.Beside(t) })
	w.sees(t, "kswitch", func() { s.w.Switch(t) })
}
