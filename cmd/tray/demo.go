package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/demo"
	"kerbpass/internal/demo/realm"
	"kerbpass/internal/settings"
)

func (c *cli) cmdDemo(ctx context.Context) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use: "demo", Short: "Try everything in a corporate world made for it, inside this process", Args: cobra.NoArgs,
		Long: "Starts a Kerberos realm, a proxy that demands Negotiate and servers behind it, all in this process, and the real Kerbpass\n" +
			"in front of them; then shows what happens to requests of each kind. Needs no network, no package and no privilege.",
		RunE: func(*cobra.Command, []string) error { return c.demo(ctx, once) },
	}
	cmd.Flags().BoolVar(&once, "once", false, "run the transcript and end; exit code 0 only if every line came out as it must")
	return cmd
}

// demo joins the demo world and a real app, and shows requests through it.
func (c *cli) demo(ctx context.Context, once bool) (err error) {
	log := slog.New(slog.DiscardHandler)
	if c.logLevel == "debug" {
		if log, err = c.logger(); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "kerbpass-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, err := demo.Start(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.Realm.Mint(realm.MintOptions{}); err != nil {
		return err
	}
	// Before the Kerberos library is first called, so that it sees this world
	// and not the user's.
	os.Setenv("KRB5_CONFIG", w.Realm.Krb5Conf())
	os.Setenv("KRB5CCNAME", "FILE:"+w.Realm.CachePath())
	conf := fmt.Sprintf("# Settings of the demo; try to edit them while it runs.\nlisten = [\"127.0.0.1:0\"]\nupstream = [%q]\n\n[bypass]\nexact = [%q]\n", w.Upstream(), demo.GitHost)
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return err
	}
	store, err := settings.Open(settings.Config{Path: path, Check: map[string]func(any) error{"bypass.exact": checkExact}, Log: log})
	if err != nil {
		return err
	}
	cfg := appConfig{store: store, log: log, dial: w.Dial}
	note := ""
	if !once {
		cfg.control, note = c.demoControl()
	}
	a, err := newApp(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var d *desktop
	if !once {
		if d, err = newDesktop(ctx, c, a); err != nil {
			a.closeListeners()
			return err
		}
		d.autostart = nil // a demo does not start at login
		a.services = append(a.services, d.run)
	}
	done := make(chan error, 1)
	go func() {
		done <- a.run(ctx)
		stop()
	}()

	s := &script{world: w, app: a, out: c.out, proxy: a.addrs()[0]}
	failed := s.play(ctx)
	if !once && ctx.Err() == nil {
		fmt.Fprintf(c.out, "\nStill running. Try it from another terminal; Ctrl-C ends it.\n\n"+
			"  curl -x http://%[1]s http://%[2]s/        through the corporate proxy, with your ticket\n"+
			"  curl -x http://%[1]s http://%[3]s/        on the bypass list, direct\n%[4]s", s.proxy, demo.WebHost, demo.GitHost, note)
		d.runTray(ctx)
		<-ctx.Done()
	}
	stop()
	if err := <-done; err != nil {
		return err
	}
	if failed > 0 {
		return failf(exitFailed, "Run it again with --log-level debug to see why.", "%d of %d lines did not come out as they must.", failed, s.n)
	}
	return nil
}

// demoControl opens the control channel for a demo that stays up, so that the
// commands reach it. A running helper keeps its own.
func (c *cli) demoControl() (net.Listener, string) {
	path, err := control.Path(c.lookupEnv)
	if err == nil {
		var l net.Listener
		if l, err = control.Listen(path); err == nil {
			return l, "  kerbpass settings                                the settings window; a tray icon shows the same\n  kerbpass status\n  kerbpass why http://" + demo.LookAlike + "/\n  kerbpass kerberos off\n"
		}
	}
	return nil, "  (kerbpass status and other commands keep talking to your running helper.)\n"
}

// script plays requests and judges what came back and what the other side saw.
type script struct {
	world *demo.World
	app   *app
	out   io.Writer
	proxy string
	n     int
}

// play returns the number of lines that did not come out as they must.
func (s *script) play(ctx context.Context) (failed int) {
	r := s.app.report(ctx)
	fmt.Fprintf(s.out, "Kerbpass demo: a realm with its KDC, a proxy that demands Kerberos, and servers, all in this process.\n"+
		"Ticket   %s, %s %s, backend %s\nProxy    %s, upstream %s\n\n", r.Ticket.Principal, r.Ticket.State, until(r.Ticket.Expires, time.Now()), r.Ticket.Backend, s.proxy, r.Proxy.Upstream)
	web, git := "http://"+demo.WebHost+"/", "http://"+demo.GitHost+"/"
	for _, l := range []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"GET " + web, s.proxied(web, true)},
		{"CONNECT " + demo.WebHost + ":443", s.connect},
		{"the same token, stolen and sent again", s.replay},
		{"GET " + git + " (on the exact list)", s.direct(git)},
		{"GET http://" + demo.LookAlike + "/ (look-alike)", s.proxied("http://"+demo.LookAlike+"/", false)},
		{"GET http://" + demo.SubHost + "/ (subdomain)", s.proxied("http://"+demo.SubHost+"/", false)},
		{`GET http://` + demo.LookAlike + `\@` + demo.GitHost + `/ (hostile)`, s.hostile},
		{"ticket expires; GET " + web, s.after(s.expire, s.refused(web, "ticket_expired", 0))},
		{"GET " + git + " meanwhile", s.direct(git)},
		{"ticket renewed; GET " + web, s.after(s.signIn, s.proxied(web, true))},
		{"ticket destroyed; GET " + web, s.after(s.destroy, s.refused(web, "no_ticket", 0))},
		{"signed in again; GET " + web, s.after(s.signIn, s.proxied(web, true))},
		{"Kerberos switched off; GET " + web, s.after(s.kerberos(false), s.refused(web, "kerberos_off", 1))},
		{"switched on; GET " + web, s.after(s.kerberos(true), s.proxied(web, true))},
	} {
		s.n++
		s.world.Take()
		text, err := l.do(ctx)
		mark := "ok  "
		if err != nil {
			mark, text = "FAIL", err.Error()
			failed++
		}
		fmt.Fprintf(s.out, "%2d %s %s\n        %s\n", s.n, mark, l.what, text)
	}
	if failed == 0 {
		fmt.Fprintf(s.out, "\nAll %d lines came out as they must.\n", s.n)
	}
	return failed
}

// get asks for u through the real proxy, on a connection of its own.
func (s *script) get(ctx context.Context, u string) (status int, cause, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return 0, "", "", err
	}
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.proxy}), DisableKeepAlives: true, ResponseHeaderTimeout: 30 * time.Second}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	_, cause, _ = strings.Cut(resp.Header.Get("Proxy-Status"), `details="`)
	return resp.StatusCode, strings.TrimSuffix(cause, `"`), string(b), err
}

// proxied expects u to be carried through the corporate proxy as alice; fresh
// asks for a new upstream connection, so for a token.
func (s *script) proxied(u string, fresh bool) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		status, cause, body, err := s.get(ctx, u)
		seen, got := s.world.Take()
		want := "Hello from " + strings.TrimSuffix(strings.TrimPrefix(u, "http://"), "/") + "\n"
		switch {
		case err != nil:
			return "", err
		case status != 200 || body != want:
			return "", fmt.Errorf("got %d %s %q, want 200 %q", status, cause, body, want)
		case len(seen) != 1 || seen[0].User != "alice@"+realm.DefaultName || seen[0].Status != 200:
			return "", fmt.Errorf("the corporate proxy saw %+v, want one request of alice", seen)
		case fresh && seen[0].TokenBytes == 0:
			return "", errors.New("the corporate proxy saw no new token")
		}
		if err := clean(got); err != nil {
			return "", err
		}
		how := "on a connection authenticated before"
		if seen[0].TokenBytes > 0 {
			how = fmt.Sprintf("with a token of %d bytes", seen[0].TokenBytes)
		}
		return fmt.Sprintf("200, proxied: the corporate proxy saw %s %s", seen[0].User, how), nil
	}
}

// clean expects one request at a server, without our credentials.
func clean(got []demo.Got) error {
	if len(got) != 1 || got[0].Credential != "" {
		return fmt.Errorf("the server saw %+v, want one request without credentials", got)
	}
	return nil
}

func (s *script) direct(u string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		status, cause, _, err := s.get(ctx, u)
		seen, got := s.world.Take()
		switch {
		case err != nil:
			return "", err
		case status != 200:
			return "", fmt.Errorf("got %d %s, want 200", status, cause)
		case len(seen) != 0:
			return "", fmt.Errorf("the corporate proxy saw %+v, want nothing", seen)
		}
		return "200, direct: the corporate proxy saw nothing", clean(got)
	}
}

// refused expects the error page with cause, and at most n requests without a
// token at the corporate proxy.
func (s *script) refused(u, want string, n int) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		status, cause, _, err := s.get(ctx, u)
		seen, got := s.world.Take()
		switch {
		case err != nil:
			return "", err
		case status != 502 || cause != want:
			return "", fmt.Errorf("got %d %s, want 502 %s", status, cause, want)
		case len(got) != 0:
			return "", fmt.Errorf("the request reached a server: %+v", got)
		case len(seen) != n || n == 1 && (seen[0].TokenBytes != 0 || seen[0].User != ""):
			return "", fmt.Errorf("the corporate proxy saw %+v, want %d requests without a token", seen, n)
		}
		return "502 " + want + ": nothing went out in another way", nil
	}
}

func (s *script) connect(ctx context.Context) (string, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.proxy)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "CONNECT %[1]s:443 HTTP/1.1\r\nHost: %[1]s:443\r\n\r\n", demo.WebHost)
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
	if err != nil {
		return "", err
	}
	if resp.StatusCode != 200 {
		return "", fmt.Errorf("got %s, want 200", resp.Status)
	}
	fmt.Fprintf(c, "GET /inside HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", demo.WebHost)
	inner, err := http.ReadResponse(br, nil)
	if err != nil {
		return "", err
	}
	defer inner.Body.Close()
	io.Copy(io.Discard, inner.Body)
	seen, got := s.world.Take()
	if len(seen) != 1 || seen[0].Method != "CONNECT" || seen[0].TokenBytes == 0 || inner.StatusCode != 200 {
		return "", fmt.Errorf("the corporate proxy saw %+v, want one CONNECT with a token", seen)
	}
	return fmt.Sprintf("200, tunnel: the corporate proxy saw %s with another token of %d bytes", seen[0].User, seen[0].TokenBytes), clean(got)
}

func (s *script) replay(ctx context.Context) (string, error) {
	status, err := s.world.Replay(ctx)
	seen, _ := s.world.Take()
	if err != nil {
		return "", err
	}
	if status != 407 || len(seen) != 1 || seen[0].Refused == "" {
		return "", fmt.Errorf("got %d, %+v, want 407", status, seen)
	}
	return "407: " + seen[0].Refused, nil
}

func (s *script) hostile(ctx context.Context) (string, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.proxy)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "GET http://%s\\@%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", demo.LookAlike, demo.GitHost, demo.GitHost)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if seen, got := s.world.Take(); resp.StatusCode != 400 || len(seen)+len(got) != 0 {
		return "", fmt.Errorf("got %d, %+v %+v, want 400 and nothing sent", resp.StatusCode, seen, got)
	}
	return "400: not one byte left the helper", nil
}

func (s *script) after(prepare func() error, do func(context.Context) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if err := prepare(); err != nil {
			return "", err
		}
		s.world.Take()
		return do(ctx)
	}
}

func (s *script) expire() error {
	now := time.Now()
	_, err := s.world.Realm.Mint(realm.MintOptions{Start: now.Add(-2 * time.Hour), End: now.Add(-time.Hour)})
	return err
}

func (s *script) signIn() error {
	_, err := s.world.Realm.Mint(realm.MintOptions{RenewUntil: time.Now().Add(7 * 24 * time.Hour)})
	return err
}

func (s *script) destroy() error { return os.Remove(s.world.Realm.CachePath()) }

func (s *script) kerberos(on bool) func() error {
	return func() error { return setKerberos(s.app.cfg.store, on) }
}
