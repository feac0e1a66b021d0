package pac

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

// World is what a script sees of the world. A nil field stands for the real
// thing.
type World struct {
	Now func() time.Time // its location is the local zone
	// Resolve looks a name up, IPv4 addresses alone (network "ip4") or all
	// ("ip"), and gives up when ctx ends.
	Resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Own are the addresses of this machine, the best one first.
	Own func() []netip.Addr
	// Alert takes what the script prints; nil discards.
	Alert func(text string)
}

// Script is one instance of a script. It is for one goroutine, and after a
// first [ErrTooLong] or [ErrTooLarge] for none.
type Script struct {
	rt    *goja.Runtime
	find  goja.Callable
	world World
	names map[string]looked

	now    time.Time // of the evaluation that runs
	varies bool      // it has asked for the time, or for chance
	globs  map[string]*glob
	waits  waits
	heap   uint64
}

// Load runs the top level of a script, which is named for its error messages.
func Load(name, source string, world World) (*Script, error) {
	if len(source) > maxScript {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrNoScript, maxScript)
	}
	s := &Script{rt: goja.New(), world: world.filled(), names: map[string]looked{}, globs: map[string]*glob{}, heap: maxHeap}
	s.rt.SetMaxCallStackSize(1000)
	// A comment of the script must not make us open the file it names.
	s.rt.SetParserOptions(parser.WithDisableSourceMaps)
	s.rt.SetTimeSource(func() time.Time { s.varies = true; return s.world.Now() })
	s.rt.SetRandSource(func() float64 { s.varies = true; return rand.Float64() })
	s.rt.Set("alert", s.alert)
	for name, f := range s.functions() {
		s.rt.Set(name, f)
	}
	s.begin()
	err := s.guard(func() error {
		tree, err := goja.Parse(name, source, parser.WithDisableSourceMaps)
		if err != nil {
			return err
		}
		program, err := goja.CompileAST(tree, false)
		if err != nil {
			return err
		}
		if _, err := s.rt.RunProgram(program); err != nil {
			return err
		}
		// By name, for a const is no property of the global object.
		f, err := s.rt.RunString(`typeof FindProxyForURLEx === "function" ? FindProxyForURLEx : typeof FindProxyForURL === "function" ? FindProxyForURL : null`)
		if err != nil {
			return err
		}
		var ok bool
		if s.find, ok = goja.AssertFunction(f); !ok {
			return errors.New("it has no function FindProxyForURL")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Find asks the script. The line is what it returned, which may be anything but
// is a string; varies says that it may return something else a moment later.
func (s *Script) Find(url, host string) (line string, varies bool, err error) {
	s.begin()
	err = s.guard(func() error {
		v, err := s.find(goja.Undefined(), s.rt.ToValue(url), s.rt.ToValue(host))
		switch {
		case err != nil:
			return err
		case v == nil || v.ExportType() != reflect.TypeFor[string]():
			return fmt.Errorf("FindProxyForURL returned %s and no string", typeName(v))
		}
		if line = v.String(); len(line) > maxLine {
			return fmt.Errorf("FindProxyForURL returned %d bytes, which is too long for an answer", len(line))
		}
		return nil
	})
	if err != nil { // and what runs on, if it does, may write to both
		return "", false, err
	}
	return line, s.varies, nil
}

func typeName(v goja.Value) string {
	switch {
	case v == nil || goja.IsUndefined(v):
		return "nothing"
	case goja.IsNull(v):
		return "null"
	}
	if _, ok := v.(*goja.Object); ok {
		return "an object"
	}
	return "a value"
}

func (s *Script) begin() {
	s.now, s.varies = time.Time{}, false
	s.waits.total.Store(0)
}

// guard runs f, which runs the script, and interrupts it at its limits. What is
// inside a function of the language itself cannot be interrupted: it is left
// behind after a moment, and its process has to end.
func (s *Script) guard(f func() error) error {
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- f() }()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		var over error
		select {
		case err := <-done:
			return wrapped(err)
		case <-look.C:
			switch {
			case heapSize() > s.heap:
				over = ErrTooLarge
			case time.Since(start)-s.waits.sum() > ownLimit:
				over = ErrTooLong
			default:
				continue
			}
		}
		s.rt.Interrupt(over)
		select {
		case <-done:
		case <-time.After(100 * time.Millisecond):
		}
		return over
	}
}

func wrapped(err error) error {
	var thrown *goja.Exception
	switch {
	case err == nil:
		return nil
	case errors.As(err, &thrown):
		return fmt.Errorf("%w: %s", ErrScript, short(thrown.Error(), 200))
	}
	return fmt.Errorf("%w: %s", ErrScript, short(err.Error(), 200))
}

// heapSize is what the objects of this process take, the dead ones included
// that have not been collected yet.
func heapSize() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// waits is the time that a script spent waiting for others.
type waits struct {
	total atomic.Int64 // nanoseconds that are over
	since atomic.Int64 // UnixNano of the one that goes on; 0: none
}

func (w *waits) sum() time.Duration {
	sum := time.Duration(w.total.Load())
	if t := w.since.Load(); t != 0 {
		sum += time.Since(time.Unix(0, t))
	}
	return sum
}

// during counts what f takes.
func (w *waits) during(f func()) {
	start := time.Now()
	w.since.Store(start.UnixNano())
	f()
	w.since.Store(0)
	w.total.Add(int64(time.Since(start)))
}
