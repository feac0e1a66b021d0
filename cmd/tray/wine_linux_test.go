//go:build linux

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// windows is the Windows program under Wine, with the world's tickets.
type windows struct {
	*helper
	prefix *testenv.WinePrefix
	args   []string // of every command
}

// startWindows runs kerbpass.exe, built with those flags, and waits until it
// listens.
func startWindows(t *testing.T, w *world, cache, file, display string, build ...string) *windows {
	t.Helper()
	prefix := testenv.Wine(t)
	conf := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(conf, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	win := &windows{prefix: prefix, args: []string{"--config", `Z:` + strings.ReplaceAll(conf, "/", `\`)}}
	win.helper = &helper{t: t, bin: prefix.GoBuild(t, ".", build...), env: prefix.Env("KRB5_CONFIG="+w.kdc.Krb5Conf, "KRB5CCNAME="+cache)}
	ctx, cancel := context.WithCancel(context.Background())
	args := append(win.args, "--log-level", "debug", "--listen", "127.0.0.1:0")
	cmd := prefix.Command(ctx, win.bin, append(args, "run")...)
	if display != "" {
		win.env = append(win.env, "DISPLAY="+display)
		cmd = prefix.Command(ctx, "explorer", append([]string{fmt.Sprintf("/desktop=kerbpass-%d,1000x700", os.Getpid()), "Z:" + strings.ReplaceAll(win.bin, "/", `\`)}, args...)...)
	}
	win.cmd, win.log, win.done = cmd, &logBuffer{addr: make(chan string, 1)}, make(chan error, 1)
	cmd.Env, cmd.Stderr, cmd.Stdout = win.env, win.log, win.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { win.done <- cmd.Wait() }()
	t.Cleanup(func() {
		win.run("quit")
		select {
		case <-win.done:
		case <-time.After(30 * time.Second):
			t.Error("quit does not end it")
		}
		cancel()
		if secret := testenv.Secret(win.log.String(), w.kdc.Password); secret != "" {
			t.Errorf("a secret in the log: %.30s…", secret)
		}
		if t.Failed() {
			t.Logf("log of the helper:\n%s", win.log)
		}
	})
	select {
	case win.addr = <-win.log.addr:
	case err := <-win.done:
		win.done <- err
		t.Fatalf("the helper ended: %v\n%s", err, win.log)
	case <-time.After(60 * time.Second):
		t.Fatalf("the helper does not listen:\n%s", win.log)
	}
	return win
}

// run runs another command under Wine; its exit code means little there.
func (w *windows) run(args ...string) string {
	w.t.Helper()
	return w.output(w.bin, append(w.args, args...)...)
}

// output runs a program under Wine and returns what it prints.
func (w *windows) output(program string, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := w.prefix.Command(ctx, program, args...)
	cmd.Env = w.env
	out, err := os.CreateTemp(w.t.TempDir(), "out")
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Run()
	text, err := os.ReadFile(out.Name())
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// The Windows program makes tokens by SSPI; the real Squid takes them.
func TestWindowsThroughSquid(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	win := startWindows(t, w, cache, fmt.Sprintf("upstream = [\"http://localhost:%d\"]\n[access]\nsame_user_only = false\n", w.squid.Port), "")
	h := win.helper
	h.want("200", "", w.url("web.world.test"))
	h.want("200", "", "-p", w.url("web.world.test"))
	user := "alice@" + w.kdc.Realm
	w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Method == "GET" && e.User == user && e.Status == "200" })
	w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Method == "CONNECT" && e.User == user && e.Status == "200" })

	var r struct {
		ticketJSON
		Proxy struct {
			State    string
			LastAuth struct{ Result, SPN string } `json:"last_auth"`
		}
	}
	out := win.run("status", "--json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	klist, err := w.kdc.Run(cache, "", "klist")
	if err != nil {
		t.Fatal(err)
	}
	if r.Ticket.State != "valid" || r.Ticket.Backend != "sspi" || !strings.HasSuffix(r.Ticket.Principal, "@"+w.kdc.Realm) || r.Proxy.State != "listening" ||
		r.Proxy.LastAuth.Result != "accepted" || r.Proxy.LastAuth.SPN != "HTTP/localhost" {
		t.Errorf("got %s\nklist says:\n%s", out, klist)
	}
	expires, err := time.Parse(time.RFC3339, r.Ticket.Expires)
	if left := time.Until(expires); err != nil || left < 9*time.Hour+50*time.Minute || left > 10*time.Hour+time.Minute {
		t.Errorf("expires %s, %v left", r.Ticket.Expires, left)
	}
	if len(r.Tickets) != 1 || !r.Tickets[0].UsedHere || len(r.Tickets[0].Services) != 1 || r.Tickets[0].Services[0].Name != "HTTP/localhost@"+w.kdc.Realm {
		t.Errorf("tickets: %+v", r.Tickets)
	}

	t.Run("switch and list", func(t *testing.T) {
		win.run("kerberos", "off")
		h.want("502", "kerberos_off", w.url("web.world.test"))
		win.run("kerberos", "on")
		win.run("bypass", "add", "localhost.world.test")
		if out := win.run("bypass", "list"); strings.TrimSpace(out) != "localhost.world.test" {
			t.Errorf("bypass list: %q", out)
		}
		if out := win.run("login", "--password-stdin"); !strings.Contains(out, "Windows") {
			t.Errorf("login: %q", out)
		}
	})

	t.Run("expired", func(t *testing.T) {
		w.kdc.Kinit(t, "alice", cache, "-l", "2s")
		time.Sleep(3 * time.Second) // Wine's clock is the machine's
		if _, cause, _ := h.curl(w.url("web.world.test")); cause != "ticket_expired" {
			t.Errorf("cause %q", cause)
		}
	})

	t.Run("destroyed", func(t *testing.T) {
		w.kdc.Run(cache, "", "kdestroy")
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			_, cause, _ := h.curl(w.url("web.world.test"))
			if cause == "no_ticket" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("cause %q", cause)
			}
		}
	})
}

// Programs of this Windows user may use the proxy, others may not.
func TestWindowsSameUser(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	win := startWindows(t, w, cache, fmt.Sprintf("upstream = [\"http://localhost:%d\"]\n", w.squid.Port), "")
	win.want("403", "not_your_user", w.url("web.world.test"))
	client := win.prefix.GoBuild(t, "./testdata/winclient")
	if out := win.output(client, "http://"+win.addr, w.url("web.world.test")); strings.TrimSpace(out) != "200 OK" {
		t.Errorf("a client of the same user: got %q", out)
	}
}
