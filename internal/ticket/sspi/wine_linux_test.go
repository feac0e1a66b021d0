//go:build linux

package sspi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/sspi"
	"kerbpass/internal/ticket/tickettest"
)

const (
	room    = "kerbpass/internal/ticket/sspi"
	spn     = "HTTP/proxy.world.test"
	unknown = "HTTP/nobody.world.test"
)

// child is a ticket.Backend under Wine.
type child struct {
	// Writing may have to wait until an answer is read, so reading must never
	// wait for writing.
	writing sync.Mutex // guards in
	in      *json.Encoder

	mu      sync.Mutex // guards what follows
	next    int
	waiting map[int]chan reply // nil when the child is gone
}

var _ ticket.Backend = (*child)(nil)

func (w world) startChild(t testing.TB, env ...string) *child {
	t.Helper()
	ctx, kill := context.WithTimeout(context.Background(), 5*time.Minute)
	cmd := w.wine.Command(ctx, w.program)
	cmd.Env = append(append(append(cmd.Env, w.env()...), childSwitch+"=1"), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{in: json.NewEncoder(in), waiting: map[int]chan reply{}}
	var reading sync.WaitGroup
	t.Cleanup(func() {
		in.Close()
		kill() // a call may be hanging in it
		cmd.Wait()
		reading.Wait()
	})
	answers := json.NewDecoder(out)
	var hello reply
	if err := answers.Decode(&hello); err != nil || hello.Err != "" {
		t.Fatalf("child under Wine: %v %s", err, hello.Err)
	}
	reading.Go(func() { c.read(answers) })
	return c
}

// read hands answers out until there are no more.
func (c *child) read(answers *json.Decoder) {
	for {
		var r reply
		err := answers.Decode(&r)
		c.mu.Lock()
		if err != nil {
			for _, ch := range c.waiting {
				ch <- reply{Err: "the child is gone: " + err.Error()}
			}
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		c.waiting[r.ID] <- r
		delete(c.waiting, r.ID)
		c.mu.Unlock()
	}
}

func (c *child) ask(ctx context.Context, q request) (reply, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return reply{}, errors.New("the child is gone")
	}
	c.next++
	q.ID, q.Canceled = c.next, ctx.Err() != nil
	c.waiting[q.ID] = ch
	c.mu.Unlock()
	if err := c.write(q); err != nil {
		return reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { c.write(request{ID: q.ID, Op: "cancel"}) })
	defer stop()
	r := <-ch
	if r.Err == "" {
		return r, nil
	}
	e := remoteError{text: r.Err}
	for _, k := range r.Kinds {
		e.kinds = append(e.kinds, sentinels[k])
	}
	return r, e
}

func (c *child) write(q request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.in.Encode(q)
}

type remoteError struct {
	text  string
	kinds []error
}

func (e remoteError) Error() string   { return e.text }
func (e remoteError) Unwrap() []error { return e.kinds }

func (c *child) Name() string {
	r, _ := c.ask(context.Background(), request{Op: "name"})
	return r.Text
}

func (c *child) Stamp() string {
	r, _ := c.ask(context.Background(), request{Op: "stamp"})
	return r.Text
}

func (c *child) Status(ctx context.Context) (ticket.Status, error) {
	r, err := c.ask(ctx, request{Op: "status"})
	return r.Status, err
}

func (c *child) Caches(ctx context.Context) ([]ticket.Cache, error) {
	r, err := c.ask(ctx, request{Op: "caches"})
	return r.Caches, err
}

func (c *child) Token(ctx context.Context, spn string) ([]byte, error) {
	r, err := c.ask(ctx, request{Op: "token", Arg: spn})
	return r.Token, err
}

func (c *child) Renew(ctx context.Context, services ...string) error {
	_, err := c.ask(ctx, request{Op: "renew", Services: services})
	return err
}

func (c *child) SignIn(ctx context.Context, l ticket.Login) error {
	_, err := c.ask(ctx, request{Op: "signin", Arg: l.Principal})
	return err
}

func (c *child) SignOut(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: "signout"})
	return err
}

// Watch is tested within Wine: see TestWatch.
func (c *child) Watch(context.Context, func()) error { return errors.ErrUnsupported }

// world is a KDC with a user who is called like the one of Windows, because
// Wine's LSA does not say whose tickets it lists.
type world struct {
	*tickettest.KDC
	user, cache string
	wine        *testenv.WinePrefix
	program     string // this package's test program for Windows
}

func begin(t *testing.T) world {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	wine := testenv.Wine(t) // its absence is said before a KDC is started
	w := world{KDC: tickettest.StartKDC(t), user: me.Username, wine: wine}
	w.program = wine.GoTestBuild(t, room)
	w.cache = "FILE:" + w.Dir + "/tickets"
	profile := []string{"KRB5_KDC_PROFILE=" + w.Dir + "/kdc.conf"}
	out, err := w.RunEnv(profile, "", "", testenv.Tool(t, "kadmin.local"), "-r", w.Realm,
		"addprinc", "-pw", w.Password, "-maxrenewlife", "7d", "+requires_preauth", w.user)
	if err != nil {
		t.Fatalf("kadmin.local: %v\n%s", err, out)
	}
	return w
}

// env is what makes Wine use this world.
func (w world) env() []string {
	return []string{"KRB5_CONFIG=" + w.Krb5Conf, "KRB5CCNAME=" + w.cache}
}

func (w world) destroy() { w.Run(w.cache, "", "kdestroy", "-q") } // that there was none is no error

// kinit signs the user in.
func (w world) kinit(t testing.TB, args ...string) {
	t.Helper()
	w.Kinit(t, w.user, w.cache, args...)
}

// lacks are the cases of the suite that Wine cannot pass.
func lacks() map[string]string {
	noReason := "Wine fails with SEC_E_INTERNAL_ERROR whatever the reason; see TestWineOnly"
	renewal := "Wine's LSA refuses to fetch a ticket; see TestWineOnly"
	return map[string]string{
		"unknown SPN":            noReason,
		"KDC down":               noReason,
		"hanging KDC":            noReason,
		"hanging KDC, cancelled": noReason,
		"renew":                  renewal,
		"renew under load":       renewal,
		"renew, KDC down":        renewal,
		"sign out":               "Wine's LSA cannot purge; see TestWineOnly",
		"watch":                  "the LSA tells nobody about new tickets, so they are looked for each minute; for the rest see TestWatch",
	}
}

func TestBackendUnderWine(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t)
	c := w.startChild(t)
	tw := w.World(t, w.cache, nil)
	tw.Principal = w.user + "@" + w.Realm
	tw.SignIn = func(t testing.TB, life time.Duration) { w.kinit(t, "-l", seconds(life)) }
	tw.Renewable = func(t testing.TB, life, renewable time.Duration) {
		w.kinit(t, "-l", seconds(life), "-r", seconds(max(renewable, time.Second)))
	}
	tw.Password = "" // Windows signs in itself
	tw.Corrupt = nil // the LSA's cache is no file; Wine takes a damaged one for none
	tw.Lacks = lacks()
	tickettest.TestBackend(t, func(testing.TB) ticket.Backend { return c }, tw)
}

func seconds(d time.Duration) string { return fmt.Sprint(int(d.Seconds()), "s") }

// What the suite expects of Windows and Wine cannot do, or does in its own way.
func TestWineOnly(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t)
	c := w.startChild(t)
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, w world, c *child)
	}{
		{"no reason", testNoReason}, {"hanging KDC", testHanging}, {"renewal", testRenewal},
		{"sign in", testSignIn}, {"purge", testPurge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.destroy()
			tt.run(t, w, c)
		})
	}
}

// Under Wine every failure but a missing cache looks alike; the backend makes
// out of it what the tickets tell, and no more.
func testNoReason(t *testing.T, w world, c *child) {
	w.kinit(t)
	token, err := c.Token(t.Context(), unknown)
	if err == nil || token != nil || !strings.Contains(err.Error(), "gives no reason (0x80090304)") || !strings.Contains(err.Error(), unknown) {
		t.Errorf("got %d bytes, %v; want an error without a reason, naming %s", len(token), err, unknown)
	}
	for _, kind := range sentinels {
		if errors.Is(err, kind) {
			t.Errorf("claims to know the reason: %v", err)
		}
	}
}

// A call that hangs in Windows is left behind, and stands in nobody's way.
func testHanging(t *testing.T, w world, c *child) {
	w.kinit(t)
	if _, err := c.Token(t.Context(), spn); err != nil {
		t.Fatal(err)
	}
	w.Pause(t)
	defer w.Resume(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Token(ctx, unknown); !errors.Is(err, context.Canceled) { // the child does not know of deadlines
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := c.Token(t.Context(), spn); err != nil {
		t.Errorf("with the service ticket at hand: %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	}
}

// Windows decides whether it renews. When it does not, the person is told what
// to do, and nothing is lost.
func testRenewal(t *testing.T, w world, c *child) {
	w.kinit(t, "-l", "1h", "-r", "4h")
	before, err := c.Status(t.Context())
	if err != nil || !before.Renewable {
		t.Fatalf("status: got %+v, %v; want it renewable", before, err)
	}
	err = c.Renew(t.Context(), spn, unknown)
	if !errors.Is(err, ticket.ErrNotRenewable) || !strings.Contains(err.Error(), "lock and unlock Windows (Win+L)") {
		t.Errorf("got %v, want %v and what to do", err, ticket.ErrNotRenewable)
	}
	if after, err := c.Status(t.Context()); err != nil || after != before {
		t.Errorf("got %+v, %v; want it untouched: %+v", after, err, before)
	}
	list, err := c.Caches(t.Context())
	if err != nil || len(list) != 1 || len(list[0].Services) != 1 || list[0].Services[0].Server != spn+"@"+w.Realm {
		t.Errorf("got %+v, %v; want the one service ticket that is to be had", list, err)
	}
}

func testSignIn(t *testing.T, w world, c *child) {
	err := c.SignIn(t.Context(), ticket.Login{Principal: "alice@WORLD.TEST"})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "unlock it with your password") {
		t.Errorf("got %v, want %v and what to do", err, errors.ErrUnsupported)
	}
}

func testPurge(t *testing.T, w world, c *child) {
	if err := c.SignOut(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("without a ticket: got %v, want %v", err, ticket.ErrNoTicket)
	}
	w.kinit(t)
	if err := c.SignOut(t.Context()); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "sign out MSLSA:") {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("status: %v; want the ticket still there", err)
	}
}

// SSPI speaks of local times, the LSA of UTC; nothing of the former gets through.
func TestTimeZones(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t)
	w.kinit(t, "-l", "1h", "-r", "4h")
	var want ticket.Status
	for _, zone := range []string{"UTC", "America/New_York", "Europe/Berlin"} {
		c := w.startChild(t, "TZ="+zone)
		got, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want == (ticket.Status{}) {
			want = got
		}
		if left := got.Left(time.Now()); got != want || left < 59*time.Minute || left > time.Hour+10*time.Second {
			t.Errorf("%s: got %+v with %v left, want %+v", zone, got, left, want)
		}
	}
}

// The tests of the Windows half, and those of every system, on Windows.
func TestInWine(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t)
	w.kinit(t)
	testenv.GoTestInWine(t, room, append(w.env(), sspi.TicketSwitch+"="+spn), ".")
}
