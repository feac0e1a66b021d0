// Package sysproxy reads what the operating system and the desktop say about
// proxies: the environment, Windows' Internet settings, the macOS dynamic
// store, GNOME's and KDE's settings, NetworkManager. It reads and watches; it
// changes nothing, and it does not fetch or run an automatic configuration
// script (PAC), it only tells where one is.
//
// No user name or password that stands in such a setting leaves this room. An
// upstream is given only if the settings of this program would take it too.
//
// The Linux sources are tested against the real gsettings, dconf and D-Bus with
// a NetworkManager of the test's, the Windows ones under Wine. The macOS one is
// tested with a stand-in for scutil and has not run on a Mac yet.
package sysproxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Source is a part of the system that has an opinion.
type Source string

// The sources.
const (
	SourceEnvironment    Source = "environment"
	SourceWindows        Source = "windows"
	SourceMacOS          Source = "macos"
	SourceGNOME          Source = "gnome"
	SourceKDE            Source = "kde"
	SourceNetworkManager Source = "networkmanager"
)

// A Setting is what one source says.
type Setting struct {
	Source Source
	// Name is where a person finds it: a variable, a key, a file.
	Name string
	// Upstreams are the HTTP proxies for everything, in order of preference, as
	// scheme://host:port and without credentials.
	Upstreams []string
	// PAC is the address of an automatic configuration script, "" none.
	PAC string
	// AutoDetect: the system searches for such a script itself (WPAD).
	AutoDetect bool
	// NoProxy are the exceptions, as the source words them.
	NoProxy []string
	// Off: the source says that there is no proxy, which ends the search.
	Off bool
	// Problem says what of this setting cannot be used, "" nothing: a SOCKS
	// proxy only, an address that is none, credentials that were left out.
	Problem string
	// Late: the source did not answer in time, so this is no word of its; what
	// it said before may still be true.
	Late bool
}

// Config says what Read and Watch look at.
type Config struct {
	// Own are this program's listeners. A proxy that is one of them is left
	// out: it is where we come from, not where we go.
	Own []netip.AddrPort
	// LookupEnv reads an environment variable; nil: os.LookupEnv. It also says
	// where the desktop keeps its settings (HOME, XDG_CONFIG_HOME and others).
	LookupEnv func(string) (string, bool)
	// Log hears, at level debug, what cannot be watched; nil discards.
	Log *slog.Logger
}

func (c Config) filled() Config {
	if c.LookupEnv == nil {
		c.LookupEnv = os.LookupEnv
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) env(name string) string {
	v, _ := c.LookupEnv(name)
	return v
}

// A source is asked by read, which may take as long as ctx, and hangs at worst
// in a file system that is away.
type source struct {
	name Source
	read func(ctx context.Context, c Config) []Setting
}

// Read asks every source at once and returns what they say, in order of
// precedence: the environment, then the system. A source that says nothing is
// left out; one that is broken, or has not answered when ctx ends, becomes a
// Setting with a Problem. Read returns when ctx ends at the latest; a source
// that hangs is left behind.
//
// The environment is what the settings of this program read too, and mean the
// same by (HTTPS_PROXY, https_proxy, HTTP_PROXY, http_proxy).
func Read(ctx context.Context, c Config) []Setting {
	c = c.filled()
	return append(environment(c), ask(ctx, c, systemSources(c))...)
}

func ask(ctx context.Context, c Config, sources []source) (all []Setting) {
	answers := make([]chan []Setting, len(sources))
	for i, s := range sources {
		answers[i] = make(chan []Setting, 1) // the answer nobody waits for any more
		go func() { answers[i] <- s.read(ctx, c) }()
	}
	for i, s := range sources {
		select {
		case got := <-answers[i]:
			all = append(all, got...)
			continue
		case <-ctx.Done():
		}
		select {
		case got := <-answers[i]: // both were ready
			all = append(all, got...)
		default:
			all = append(all, Setting{Source: s.name, Problem: errLate.Error(), Late: true})
		}
	}
	return all
}

// Choose returns the proxies of the first setting that decides, and that
// setting: one with upstreams, one that says there is no proxy, or one that
// names a script; the last two have no upstreams. A mere search for a script
// (AutoDetect) decides nothing, nor does a setting of which nothing can be
// used. Not ok means that no setting decides.
func Choose(all []Setting) (upstreams []string, from Setting, ok bool) {
	for _, s := range all {
		switch {
		case s.Off:
			return nil, s, true
		case len(s.Upstreams) > 0:
			return s.Upstreams, s, true
		case s.PAC != "":
			return nil, s, true
		}
	}
	return nil, Setting{}, false
}

var errLate = errors.New("it did not answer in time")

const (
	settle    = 200 * time.Millisecond // of quiet before a change is told
	settleMax = 2 * time.Second
)

// A watcher reports when it is ready, and then every change until ctx ends; an
// error means that the system does not have what it watches.
type watcher struct {
	name string
	run  func(ctx context.Context, c Config, report func()) error
}

// Watch calls changed, one call at a time, when a source may say something
// else than before, and once at the beginning, when nothing more can be
// missed; whoever reads then knows all. It returns when ctx ends and all it
// started is gone. It waits for word from the system and never looks by
// itself. The environment of a program does not change and is not watched.
func Watch(ctx context.Context, c Config, changed func()) {
	c = c.filled()
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	reports := make(chan struct{}, 1) // "something changed": one waiting word is enough
	report := func() {
		select {
		case reports <- struct{}{}:
		default:
		}
	}
	report()
	for _, w := range systemWatchers(c) {
		wg.Go(func() {
			if err := w.run(ctx, c, report); err != nil && ctx.Err() == nil {
				c.Log.Debug("system proxy settings: not watched", "what", w.name, "err", err)
			}
		})
	}
	var deadline time.Time // by which a change is told, quiet or not; zero: there is none
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reports:
			if deadline.IsZero() {
				deadline = time.Now().Add(settleMax)
			}
			quiet.Reset(max(0, min(settle, time.Until(deadline))))
		case <-quiet.C:
			deadline = time.Time{}
			changed()
		}
	}
}
