package main

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
	"kerbpass/internal/sysproxy"
)

const (
	systemLimit = 3 * time.Second  // for one look at the system's settings
	systemRetry = 30 * time.Second // after a look at which a part did not answer
	systemFresh = 5 * time.Second  // so old may be what the page is shown
)

// systemProxies is what the system says about proxies, as last read. Settings
// ask it for the upstreams, and never wait. A nil one says nothing.
type systemProxies struct {
	lookupEnv func(string) (string, bool)
	again     chan struct{} // capacity 1: look again

	one sync.Mutex // held while reading: the last to read is the last to tell

	mu   sync.Mutex // guards what follows
	own  []netip.AddrPort
	all  []sysproxy.Setting
	late bool      // a part did not answer
	read time.Time // zero: never
}

func newSystemProxies(lookupEnv func(string) (string, bool)) *systemProxies {
	return &systemProxies{lookupEnv: lookupEnv, again: make(chan struct{}, 1)}
}

// upstreams are [settings.Config].System. The environment speaks there for
// itself.
func (s *systemProxies) upstreams() []string {
	upstreams, _ := s.chosen()
	return upstreams
}

func (s *systemProxies) chosen() ([]string, sysproxy.Setting) {
	upstreams, from, _ := sysproxy.Choose(slices.DeleteFunc(s.settings(), func(x sysproxy.Setting) bool {
		return x.Source == sysproxy.SourceEnvironment
	}))
	return upstreams, from
}

// settings returns a copy of what was read.
func (s *systemProxies) settings() []sysproxy.Setting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func (s *systemProxies) listenOn(own []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = own
}

func (s *systemProxies) config() sysproxy.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sysproxy.Config{Own: s.own, LookupEnv: s.lookupEnv}
}

// refresh reads anew and reports whether the upstreams are others. Of a part
// that does not answer in time, what it said before stays.
func (s *systemProxies) refresh(ctx context.Context) (changed bool) {
	s.one.Lock()
	defer s.one.Unlock()
	limited, cancel := context.WithTimeout(ctx, systemLimit)
	defer cancel()
	was, from := s.chosen()
	all := sysproxy.Read(limited, s.config())
	if ctx.Err() != nil {
		return false
	}
	var joined []sysproxy.Setting
	late := false
	before := s.settings()
	for _, x := range all {
		late = late || x.Late
		said := slices.DeleteFunc(slices.Clone(before), func(y sysproxy.Setting) bool { return y.Source != x.Source })
		if x.Late && len(said) > 0 {
			joined = append(joined, said...)
			continue
		}
		joined = append(joined, x)
	}
	s.mu.Lock()
	s.all, s.late, s.read = joined, late, time.Now()
	s.mu.Unlock()
	now, nowFrom := s.chosen()
	return !slices.Equal(was, now) || from.Source != nowFrom.Source || from.PAC != nowFrom.PAC
}

func (s *systemProxies) isLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

func (s *systemProxies) isFresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.read.IsZero() && time.Since(s.read) < systemFresh
}

// join has the store use the system's upstream if no stronger source names
// one; only then the system is asked.
func (s *systemProxies) join(store *settings.Store) {
	snap := store.Snapshot()
	s.listenOn(addrPorts(snap.Listen))
	if (len(snap.Upstream) == 0 || snap.PAC == autoPAC) && s.refresh(context.Background()) {
		store.Reload() // what it reports is in the snapshot
	}
}

// look has the running helper read the system's settings again.
func (s *systemProxies) look() {
	if s == nil {
		return
	}
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// source words where the upstream is from, given the settings' word for it.
func (s *systemProxies) source(word string) string {
	if s == nil || word != string(settings.SourceSystem) {
		return word
	}
	_, from := s.chosen()
	name, ok := map[sysproxy.Source]string{
		sysproxy.SourceWindows: "Windows", sysproxy.SourceMacOS: "macOS", sysproxy.SourceGNOME: "GNOME", sysproxy.SourceKDE: "KDE",
		sysproxy.SourceNetworkManager: "NetworkManager",
	}[from.Source]
	if !ok {
		return "system settings"
	}
	return "system settings (" + name + ")"
}

// watchSystem follows what the system says about proxies.
func (a *app) watchSystem(ctx context.Context) error {
	s := a.cfg.system
	s.listenOn(addrPorts(a.addrs()))
	cfg := s.config()
	cfg.Log = a.log
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { sysproxy.Watch(ctx, cfg, s.look) })
	retry := time.NewTimer(0)
	retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.again:
		case <-retry.C:
		}
		if s.refresh(ctx) {
			upstreams, from := s.chosen()
			script, _, _ := strings.Cut(from.PAC, "?") // a query may hold a secret
			a.log.Info("system proxy settings", "upstream", upstreams, "pac", script, "source", string(from.Source), "name", from.Name)
			a.cfg.store.Reload() // what it reports is in the snapshot
			a.readopt()
		}
		if s.isLate() {
			retry.Reset(systemRetry)
		}
	}
}

func addrPorts(addrs []string) (all []netip.AddrPort) {
	for _, addr := range addrs {
		if ap, err := netip.ParseAddrPort(addr); err == nil {
			all = append(all, ap)
		}
	}
	return all
}

// foundReport is what GET /v1/found answers.
type foundReport struct {
	Settings   []foundSetting `json:"settings"`
	Suggestion string         `json:"suggestion"` // an upstream to use, "" none
	InUse      bool           `json:"in_use"`     // it is the upstream already
}

type foundSetting struct {
	Source     sysproxy.Source `json:"source"`
	Name       string          `json:"name"`
	Upstreams  []string        `json:"upstreams"`
	PAC        string          `json:"pac"`
	AutoDetect bool            `json:"auto_detect"`
	Off        bool            `json:"off"`
	Problem    string          `json:"problem"`
}

// found tells what the environment and the system say about proxies, whatever
// is used of it.
func (a *app) found(ctx context.Context) foundReport {
	r := foundReport{Settings: []foundSetting{}}
	s := a.cfg.system
	if s == nil {
		return r
	}
	if !s.isFresh() && s.refresh(ctx) {
		a.cfg.store.Reload() // as above
		a.readopt()
	}
	all := s.settings()
	for _, x := range all {
		r.Settings = append(r.Settings, foundSetting{x.Source, x.Name, append([]string{}, x.Upstreams...), x.PAC, x.AutoDetect, x.Off, x.Problem})
	}
	if upstreams, _, _ := sysproxy.Choose(all); len(upstreams) > 0 {
		r.Suggestion = upstreams[0]
		now := a.now.Load().upstreamURLs()
		r.InUse = len(now) > 0 && now[0] == r.Suggestion
	}
	return r
}

func (a *app) serveFound(w http.ResponseWriter, r *http.Request) {
	control.WriteJSON(w, a.found(r.Context()))
}
