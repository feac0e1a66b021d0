package pac

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	keepAnswer = 30 * time.Second // that only the target decided
	keepError  = 5 * time.Second
	maxAnswers = 1024
	firstWait  = 8 * time.Second // of a request, for the first script
	retryFirst = 2 * time.Second // after a fetch that failed; doubled each time
	retryLast  = 5 * time.Minute
)

// Config says where a script is and how it is run. Places and Command are
// required.
type Config struct {
	// Places are where the script may be: http and https URLs, file URLs or
	// paths. The first that has one counts. The function may take a moment.
	Places func(ctx context.Context) []string
	// Command starts a process that calls [Serve] with its standard input and
	// output.
	Command []string
	// Dial and TLS are for fetching; nil: the usual ones. Neither may use a proxy.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS  *tls.Config
	// Changed is called, from any goroutine, when State is another; may be nil.
	Changed func()
	Log     *slog.Logger // nil discards
}

// State is how a Finder stands.
type State struct {
	Place  string    // of the script in use; "" while there is none
	Err    error     // why the last look for a newer one failed; nil: it did not
	Failed time.Time // since when
}

// Finder finds the way for requests. Safe for concurrent use.
type Finder struct {
	cfg   Config
	fetch *fetcher
	ctx   context.Context // of what runs on its own, until Close
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	cur     *version
	err     error
	failed  time.Time // since when fetching fails
	tried   time.Time // when the last fetch ended
	wait    time.Duration
	again   *time.Timer
	running chan struct{} // closed when the fetch that runs ends; nil: none does
	closed  bool
}

// version is one script in use, with its answers.
type version struct {
	*fetched
	pool  *pool
	check time.Time // when to look for a newer one

	mu      sync.Mutex // guards answers
	answers map[target]*kept
}

type target struct {
	tls  bool
	host string
	port uint16
}

// kept is an answer, or one that is being found.
type kept struct {
	done   chan struct{}
	answer *Answer
	err    error
	until  time.Time // set before done is closed
}

// New returns a Finder that has begun to look for its script. Close ends it.
func New(cfg Config) *Finder {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	f := &Finder{cfg: cfg, fetch: newFetcher(cfg.Dial, cfg.TLS)}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	return f
}

// Close ends what the Finder started. Find fails afterwards.
func (f *Finder) Close() {
	f.mu.Lock()
	f.closed = true
	if f.again != nil {
		f.again.Stop()
	}
	f.mu.Unlock()
	f.stop()
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur != nil {
		f.cur.pool.close()
	}
}

// State tells how the Finder stands.
func (f *Finder) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := State{Err: f.err, Failed: f.failed}
	if f.cur != nil {
		s.Place = plain(f.cur.place)
	}
	return s
}

// Refresh looks for a newer script and forgets every answer and name: the
// network is another one.
func (f *Finder) Refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur != nil {
		f.cur.forget()
	}
	f.wait = 0
	f.look()
}

// look starts a fetch, if none runs. The caller holds f.mu.
func (f *Finder) look() {
	if f.running != nil || f.closed {
		return
	}
	if f.again != nil {
		f.again.Stop()
	}
	running := make(chan struct{})
	f.running = running
	f.wg.Go(func() {
		defer close(running)
		f.get()
	})
}

// get fetches the script, and puts it in use if it is another.
func (f *Finder) get() {
	f.mu.Lock()
	old := f.cur
	f.mu.Unlock()
	got, err := f.first(old)
	same := errors.Is(err, errSame)
	var next *version
	if err == nil {
		next = &version{fetched: got, pool: newPool(f.cfg.Command, "proxy.pac", got.source, f.cfg.Log), answers: map[target]*kept{}}
		if err = next.pool.check(); err != nil {
			next.pool.close()
		}
	}
	f.mu.Lock()
	now := time.Now()
	f.running, f.tried = nil, now
	if f.closed {
		f.mu.Unlock()
		if err == nil {
			next.pool.close()
		}
		return
	}
	was := f.err
	switch {
	case same:
		old.fetched, old.check = got, now.Add(got.fresh)
		f.err = nil
	case err == nil:
		next.check = now.Add(got.fresh)
		f.cur, f.err = next, nil
	default:
		f.err = err
		if f.cur != nil {
			f.cur.check = now.Add(retryLast) // meanwhile the timer looks
		}
	}
	if f.err == nil {
		f.wait, f.failed = 0, time.Time{}
	} else {
		if was == nil {
			f.failed = now
		}
		f.wait = min(max(2*f.wait, retryFirst), retryLast)
		f.again = time.AfterFunc(f.wait, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.look()
		})
	}
	now2 := f.err
	f.mu.Unlock()
	if err == nil && old != nil {
		old.pool.close()
	}
	if err == nil {
		f.cfg.Log.Info("configuration script in use", "from", plain(got.place), "bytes", len(got.source))
	}
	switch {
	case now2 != nil && (was == nil || was.Error() != now2.Error()):
		f.cfg.Log.Warn("configuration script cannot be had", "err", now2, "last_good_kept", old != nil)
	case now2 == nil && was != nil:
		f.cfg.Log.Info("configuration script can be had again")
	}
	if err == nil || (was == nil) != (now2 == nil) {
		f.cfg.Changed()
	}
}

// plain is a place as it may be shown: a query may hold a secret.
func plain(place string) string {
	if i := strings.IndexAny(place, "?#"); i >= 0 && strings.Contains(place, "://") {
		place = place[:i] + "?…"
	}
	return short(place, 200)
}

// first fetches from the first place that has a script.
func (f *Finder) first(old *version) (*fetched, error) {
	var last *fetched
	if old != nil {
		last = old.fetched
	}
	var all []string
	for _, place := range f.cfg.Places(f.ctx) {
		got, err := f.fetch.fetch(f.ctx, place, last)
		if err == nil || errors.Is(err, errSame) {
			return got, err
		}
		if f.ctx.Err() != nil {
			return nil, f.ctx.Err()
		}
		all = append(all, fmt.Sprintf("%s: %v", plain(place), err))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no place is known to look for it", ErrNoScript)
	}
	return nil, fmt.Errorf("%w (%s)", ErrNoScript, strings.Join(all, "; "))
}

// Find says which way a request to host and port takes; with tls it is an
// https request, or any other in a tunnel. Until there is a first script it
// waits for it, for a while. An error is one of this package's, or of ctx.
func (f *Finder) Find(ctx context.Context, tls bool, host string, port uint16) (*Answer, error) {
	v, err := f.version(ctx)
	if err != nil {
		return nil, err
	}
	key := target{tls, host, port}
	for {
		k, mine := v.keep(key)
		if !mine {
			select {
			case <-k.done:
				if errors.Is(k.err, context.Canceled) && ctx.Err() == nil { // its client's, not ours
					continue
				}
				return k.answer, k.err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		k.answer, k.err = v.find(ctx, key)
		v.found(key, k)
		return k.answer, k.err
	}
}

// version is the script in use, or the first one as soon as it is there.
func (f *Finder) version(ctx context.Context) (*version, error) {
	var end <-chan time.Time
	for {
		f.mu.Lock()
		v, err, running := f.cur, f.err, f.running
		now := time.Now()
		if f.closed {
			f.mu.Unlock()
			return nil, ErrNoScript
		}
		if v != nil {
			if now.After(v.check) {
				v.check = now.Add(checkSoonest)
				f.look()
			}
			f.mu.Unlock()
			return v, nil
		}
		if running == nil && now.Sub(f.tried) > retryFirst {
			f.look()
			running = f.running
		}
		f.mu.Unlock()
		if running == nil {
			return nil, cmp.Or(err, ErrNoScript)
		}
		if end == nil {
			t := time.NewTimer(firstWait)
			defer t.Stop()
			end = t.C
		}
		select {
		case <-running:
		case <-end:
			return nil, fmt.Errorf("%w: it is still being fetched", ErrNoScript)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// keep returns what is known about a target; mine says that the caller has to
// find it, and call found.
func (v *version) keep(key target) (k *kept, mine bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k = v.answers[key]
	if k != nil {
		select {
		case <-k.done:
			if time.Now().Before(k.until) {
				return k, false
			}
		default:
			return k, false
		}
	}
	if len(v.answers) >= maxAnswers {
		clear(v.answers) // those that are being found have their waiters already
	}
	k = &kept{done: make(chan struct{})}
	v.answers[key] = k
	return k, true
}

func (v *version) found(key target, k *kept) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case k.err == nil && !k.answer.Varies:
		k.until = time.Now().Add(keepAnswer)
	case errors.Is(k.err, ErrScript), errors.Is(k.err, ErrTooLong), errors.Is(k.err, ErrTooLarge), errors.Is(k.err, ErrAnswer):
		k.until = time.Now().Add(keepError)
	}
	close(k.done)
}

func (v *version) forget() {
	v.mu.Lock()
	clear(v.answers)
	v.mu.Unlock()
	v.pool.drop()
}

func (v *version) find(ctx context.Context, t target) (*Answer, error) {
	line, varies, err := v.pool.find(ctx, URL(t.tls, t.host, t.port), t.host)
	if err != nil {
		return nil, err
	}
	return NewAnswer(line, varies)
}

// NewAnswer reads a line that a script returned. A line in which nothing can be
// used is an error.
func NewAnswer(line string, varies bool) (*Answer, error) {
	hops, skipped := Parse(line)
	if len(hops) == 0 {
		why := "it is empty"
		if len(skipped) > 0 {
			why = strings.Join(skipped, "; ")
		}
		return nil, fmt.Errorf("%w: %s", ErrAnswer, short(why, 400))
	}
	if strings.Contains(line, "@") { // see shown
		var all []string
		for _, h := range hops {
			all = append(all, h.String())
		}
		line = strings.Join(all, "; ")
	}
	return &Answer{Line: short(line, 400), Hops: hops, Skipped: skipped, Varies: varies}, nil
}

// URL is what a script is told of a request: no path and no query, which are
// none of its business and are not known inside a tunnel.
func URL(tls bool, host string, port uint16) string {
	scheme, usual := "http", uint16(80)
	if tls {
		scheme, usual = "https", 443
	}
	authority := host
	if strings.Contains(host, ":") {
		authority = "[" + host + "]"
	}
	if port != usual {
		authority += ":" + strconv.Itoa(int(port))
	}
	return scheme + "://" + authority + "/"
}
