package activity_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/activity"
	"kerbpass/internal/testenv"
)

func fill(r *activity.Ring, n int) {
	for range n {
		r.Add(activity.Entry{Host: fmt.Sprint("host", r.Last()+1)})
	}
}

// seqs returns first and last Seq, and checks that they grow by one and that
// every entry is the one that was added under its number.
func seqs(t *testing.T, es []activity.Entry) string {
	t.Helper()
	for i, e := range es {
		if i > 0 && e.Seq != es[i-1].Seq+1 {
			t.Errorf("entry %d follows %d", e.Seq, es[i-1].Seq)
		}
		if want := fmt.Sprint("host", e.Seq); e.Host != want {
			t.Errorf("entry %d: got %s, want %s", e.Seq, e.Host, want)
		}
	}
	if len(es) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d-%d", es[0].Seq, es[len(es)-1].Seq)
}

func TestSince(t *testing.T) {
	for _, tt := range []struct {
		name  string
		added int
		seq   uint64
		max   int
		want  string
	}{
		{"empty", 0, 0, 10, "none"},
		{"empty, number of another ring", 0, 7, 10, "none"},
		{"first", 1, 0, 10, "1-1"},
		{"nothing newer", 5, 5, 10, "none"},
		{"some newer", 5, 2, 10, "3-5"},
		{"oldest first when there are too many", 50, 2, 10, "3-12"},
		{"none wanted", 5, 0, 0, "none"},
		{"a negative number wanted", 5, 0, -1, "none"},
		{"number of another ring", 5, 6, 10, "1-5"},
		{"full", activity.Size, 0, activity.Size, "1-1000"},
		{"oldest overwritten", activity.Size + 1, 0, activity.Size, "2-1001"},
		{"reader left behind", 3*activity.Size + 17, 20, 5, "2018-2022"},
		{"more wanted than kept", 2 * activity.Size, 0, 1 << 40, "1001-2000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r activity.Ring
			fill(&r, tt.added)
			if got := seqs(t, r.Since(tt.seq, tt.max)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestWait(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		var r activity.Ring
		got := make(chan string, 3)
		wait := func(ctx context.Context, seq uint64) { got <- seqs(t, r.Wait(ctx, seq)) }

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		wait(ctx, 0)
		if s, took := <-got, time.Since(began); s != "none" || took != time.Minute {
			t.Errorf("nothing came: got %s after %v, want none after a minute", s, took)
		}

		for range 3 {
			go wait(t.Context(), 0)
		}
		synctest.Wait()
		if len(got) > 0 {
			t.Fatalf("returned %s before anything was added", <-got)
		}
		fill(&r, 1)
		for range 3 {
			if s := <-got; s != "1-1" {
				t.Errorf("got %s, want 1-1", s)
			}
		}
		fill(&r, 4)
		if wait(t.Context(), 1); <-got != "2-5" {
			t.Error("what is there already was waited for")
		}
		if wait(t.Context(), 99); len(got) != 1 || <-got != "1-5" {
			t.Error("the number of another ring was waited for")
		}

		go wait(t.Context(), 5)
		synctest.Wait()
		r.Close()
		if s := <-got; s != "none" {
			t.Errorf("closed: got %s, want none", s)
		}
		if wait(t.Context(), 5); <-got != "none" {
			t.Error("a wait on a closed ring got something")
		}
		fill(&r, 1)
		if wait(t.Context(), 5); <-got != "6-6" {
			t.Error("a closed ring does not go on")
		}
	})
}

// Readers that lag behind lose entries but never see one twice, torn or out of
// order, and the writers never notice them.
func TestConcurrent(t *testing.T) {
	testenv.NoLeaks(t)
	const writers, each = 4, 5000
	var r activity.Ring
	var write, read sync.WaitGroup
	for range writers {
		write.Go(func() {
			for i := range each {
				r.Add(activity.Entry{Host: fmt.Sprint(i), Method: fmt.Sprint(i), Port: uint16(i)})
			}
		})
	}
	for range 3 {
		read.Go(func() {
			for seq := uint64(0); seq < writers*each; {
				es := r.Wait(t.Context(), seq)
				if len(es) == 0 || len(es) > activity.Size {
					t.Errorf("got %d entries", len(es))
					return
				}
				for _, e := range es {
					if e.Seq <= seq || e.Host != e.Method || e.Host != fmt.Sprint(e.Port) {
						t.Errorf("after %d came %+v", seq, e)
						return
					}
					seq = e.Seq
				}
			}
		})
	}
	write.Wait()
	read.Wait()
	if got := r.Last(); got != writers*each {
		t.Errorf("got %d entries, want %d", got, writers*each)
	}
}

// A client chooses its method; a ring full of long ones must stay small.
func TestLongTextIsCut(t *testing.T) {
	var r activity.Ring
	long := strings.Repeat("X", 100<<10)
	r.Add(activity.Entry{Method: long, Host: long, Program: "curl"})
	e := r.Since(0, 1)[0]
	if len(e.Method) > 300 || len(e.Host) > 300 || e.Program != "curl" || !strings.HasPrefix(long, e.Method) || e.Method == "" {
		t.Errorf("got %d and %d bytes, program %q", len(e.Method), len(e.Host), e.Program)
	}
}

var typical = activity.Entry{
	Time: time.Now(), Program: "curl", PID: 4711, Method: "CONNECT", Host: "web.corp.example", Port: 443, Route: "proxy",
	Rule: "default", Upstream: "http://proxy.corp.example:8080", Status: 200, Result: "ok", Up: 1000, Down: 1 << 20, Took: time.Second,
}

func TestAddAllocatesNothing(t *testing.T) {
	var r activity.Ring
	if n := testing.AllocsPerRun(1000, func() { r.Add(typical) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		var r activity.Ring
		b.ReportAllocs()
		for b.Loop() {
			r.Add(typical)
		}
	})
	b.Run("with a reader of everything", func(b *testing.B) {
		var r activity.Ring
		fill(&r, activity.Size)
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					r.Since(0, activity.Size)
				}
			}
		})
		for b.Loop() {
			r.Add(typical)
		}
		close(done)
		wg.Wait()
	})
}
