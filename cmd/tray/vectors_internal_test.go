package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kerbpass/internal/demo"
	"kerbpass/internal/demo/realm"
	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
)

// dialled is a network that connects everything to one server and remembers
// what was asked for.
type dialled struct {
	server net.Listener
	mu     sync.Mutex // guards both
	addrs  []string
	heads  []string
}

func newDialled(t *testing.T) *dialled {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dialled{server: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					d.mu.Lock()
					d.heads = append(d.heads, req.Method+" "+req.RequestURI)
					d.mu.Unlock()
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return d
}

func (d *dialled) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.addrs = append(d.addrs, addr)
	d.mu.Unlock()
	return (&net.Dialer{}).DialContext(ctx, "tcp", d.server.Addr().String())
}

func (d *dialled) take() (addrs, heads []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addrs, heads = d.addrs, d.heads
	d.addrs, d.heads = nil, nil
	return addrs, heads
}

// startApp runs an app on a free port until the test ends.
func startApp(t *testing.T, file string, flags map[string]any, cfg appConfig) *app {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"listen": []string{"127.0.0.1:0"}}
	for k, v := range flags {
		all[k] = v
	}
	log := slog.New(slog.DiscardHandler)
	store, err := settings.Open(settings.Config{Path: path, Flags: all, SelfUpstream: selfUpstream, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	cfg.store, cfg.log = store, log
	a, err := newApp(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return a
}

// ask sends one request head and returns the status of the answer.
func ask(t *testing.T, addr, method, target, host string) int {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n", method, target, host)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %q: %v", method, target, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// What the exact list decides is what is dialled, for plain requests and
// CONNECT alike: every vector goes through the real parser, the real lists and
// the real dial (A6, I1 to I3).
func TestI3VectorsDecisionIsTheDial(t *testing.T) {
	testenv.NoLeaks(t)
	const direct, proxied, refused = "direct", "proxied", "refused"
	for _, tt := range []struct {
		id, list, target string
		want             string
		dial             string // where a direct one must go
	}{
		{"E01", "github.com", "http://github.com/", direct, "github.com:80"},
		{"E02", "github.com", "http://api.github.com/", proxied, ""},
		{"E03", "github.com", "http://evil-github.com/", proxied, ""},
		{"E04", "corp.com", "http://malicious-corp.com/", proxied, ""},
		{"E04 suffix", "corp.com", "http://corp.com.evil.org/", proxied, ""},
		{"E06", ".corp.com", "http://a.corp.com/", proxied, ""},
		{"E07", "*.corp.com,*,corp.*", "http://a.corp.com/", proxied, ""},
		{"E08", "GitHub.COM", "http://github.com/", direct, "github.com:80"},
		{"E10", " github.com , api.github.com", "http://api.github.com/", direct, "api.github.com:80"},
		{"E15", "github.com,,api.github.com,", "http://api.github.com/", direct, "api.github.com:80"},
		{"E16", ",", "http://github.com/", proxied, ""},
		{"E19", "\u200bgithub.com", "http://github.com/", proxied, ""},
		{"E20", "github.com", "http://github.com./", direct, "github.com:80"},
		{"E22", "intranet", "http://intranet./", proxied, ""},
		{"E23", "github.com", "http://github.com:8443/", direct, "github.com:8443"},
		{"E23 empty", "github.com", "http://github.com:/", direct, "github.com:80"},
		{"E26", "10.1.2.3", "http://10.1.2.3:8080/", direct, "10.1.2.3:8080"},
		{"E28", "10.1.2.3", "http://[::ffff:10.1.2.3]/", proxied, ""},
		{"E29", "intranet.corp", "http://10.1.2.3/", proxied, ""},
		{"E30", "10.0.0.0/8", "http://10.1.2.3/", proxied, ""},
		{"E31", "2001:db8::1", "http://[2001:db8::1]/", direct, "[2001:db8::1]:80"},
		{"E32", "[2001:db8::1]", "http://[2001:db8::1]/", direct, "[2001:db8::1]:80"},
		{"E34", "2001:DB8::1", "http://[2001:db8:0::1]/", direct, "[2001:db8::1]:80"},
		{"E36", "github.com", "http://user:pw@github.com/", direct, "github.com:80"},
		{"E38", "github.com", "http://evil.org@github.com/", direct, "github.com:80"},
		{"E39", "github.com", `http://evil.org\@github.com/`, refused, ""},
		{"E40", "github.com", "http://evil.org/@github.com", proxied, ""},
		{"E40 query", "github.com", "http://evil.org?@github.com", proxied, ""},
		{"E40 fragment", "github.com", "http://evil.org#@github.com", proxied, ""},
		{"E42", "github.com", "http://git\thub.com/", refused, ""},
		{"E45", "github.com", "http://gіthub.com/", proxied, ""},
		{"E46", "bücher.example", "http://xn--bcher-kva.example/", direct, "xn--bcher-kva.example:80"},
		{"E48", "BÜCHER.example", "http://bücher.example/", direct, "xn--bcher-kva.example:80"},
		{"E49", "straße.de", "http://strasse.de/", proxied, ""},
		{"E51", "my_host.corp", "http://my_host.corp/", direct, "my_host.corp:80"},
		{"E53", "github.com", "//github.com/", refused, ""},
		{"E54", "github.com", "http://github.com:abc/", refused, ""},
		{"E54 large", "github.com", "http://github.com:99999/", refused, ""},
		{"R05", "github.com", "http://github.com@evil.org/", proxied, ""},
		{"R07", "github.com", "http://github%2ecom/", refused, ""},
		{"R09", "github.com", "http://[fe80::1%25eth0]/", refused, ""},
		{"R20", "github.com", "http://2130706433/", refused, ""},
		{"R20 short", "github.com", "http://127.1/", refused, ""},
	} {
		net := newDialled(t)
		a := startApp(t, "[access]\nsame_user_only = false\n", map[string]any{
			"bypass.exact": splitList(tt.list), "upstream": []string{"http://up.test:3128"}, "kerberos.enabled": false,
		}, appConfig{dial: net.dial})
		requests := [][2]string{{"GET", tt.target}}
		// The same authority for CONNECT, where it has one.
		if rest, ok := strings.CutPrefix(tt.target, "http://"); ok && !strings.Contains(rest, "@") && tt.id != "E23 empty" {
			authority := strings.TrimSuffix(rest, "/")
			if host := authority; !strings.Contains(host[strings.LastIndexByte(host, ']')+1:], ":") {
				authority += ":80"
			}
			requests = append(requests, [2]string{"CONNECT", authority})
		}
		for _, r := range requests {
			status := ask(t, a.addrs()[0], r[0], r[1], "other.test")
			addrs, heads := net.take()
			got := proxied
			switch {
			case status == 400 && len(addrs) == 0:
				got = refused
			case len(addrs) == 1 && addrs[0] != "up.test:3128":
				got = direct
			}
			if got != tt.want || tt.want != refused && status != 200 || tt.dial != "" && addrs[0] != tt.dial {
				t.Errorf("%s %s %q with list %q: %d, dialled %v, want %s %s", tt.id, r[0], r[1], tt.list, status, addrs, tt.want, tt.dial)
			}
			if tt.want == proxied && (len(heads) != 1 || strings.Contains(heads[0], "@github.com:")) {
				t.Errorf("%s: the upstream was asked %q", tt.id, heads)
			}
		}
	}
}

// Every row of the suffix vectors through the real proxy. Loopback targets are
// direct whatever the list says, and are dialled as loopback.
func TestVectorsSuffix(t *testing.T) {
	testenv.NoLeaks(t)
	text, err := os.ReadFile("../../internal/route/testdata/no_proxy.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || len(f) < 4 {
			continue
		}
		rows++
		network := newDialled(t)
		a := startApp(t, "[access]\nsame_user_only = false\n", map[string]any{
			"no_proxy": []string{f[1]}, "upstream": []string{"http://up.test:3128"}, "kerberos.enabled": false,
		}, appConfig{dial: network.dial})
		status := ask(t, a.addrs()[0], "GET", "http://"+f[2]+"/", "other.test")
		addrs, _ := network.take()
		got := "P"
		switch {
		case status == 400:
			got = "E"
		case len(addrs) > 0 && addrs[0] != "up.test:3128":
			got = "D"
		}
		if got != f[3] {
			t.Errorf("%s %q %q: got %s (%d, %v), want %s", f[0], f[1], f[2], got, status, addrs, f[3])
		}
	}
	if rows < 40 {
		t.Fatalf("only %d rows", rows)
	}
}

// The ports of tunnels come from the settings.
func TestF8PortsFromTheSettings(t *testing.T) {
	testenv.NoLeaks(t)
	network := newDialled(t)
	a := startApp(t, "[access]\nsame_user_only = false\nconnect_ports = [\"443\", \"8000-8999\"]\n", map[string]any{
		"upstream": []string{"http://up.test:3128"}, "kerberos.enabled": false,
	}, appConfig{dial: network.dial})
	for port, want := range map[string]int{"443": 200, "8000": 200, "8999": 200, "9000": 403, "25": 403, "444": 403} {
		if got := ask(t, a.addrs()[0], "CONNECT", "a.test:"+port, "a.test"); got != want {
			t.Errorf("port %s: got %d, want %d", port, got, want)
		}
	}
	if got := ask(t, a.addrs()[0], "GET", "http://a.test:25/", "a.test"); got != 200 {
		t.Errorf("GET on port 25: got %d", got)
	}
}

// The demo is the product's smoke test: it must notice whatever is broken.
func TestDemoNoticesBreakage(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name   string
		change func(w *demo.World, flags map[string]any, cfg *appConfig)
	}{
		{"nothing", nil},
		{"a list that covers too much", func(_ *demo.World, flags map[string]any, _ *appConfig) {
			flags["no_proxy"] = []string{demo.GitHost}
		}},
		{"an empty list", func(_ *demo.World, flags map[string]any, _ *appConfig) { flags["bypass.exact"] = []string{} }},
		{"Kerberos cannot be switched", func(_ *demo.World, flags map[string]any, _ *appConfig) { flags["kerberos.enabled"] = true }},
		{"Kerberos off", func(_ *demo.World, flags map[string]any, _ *appConfig) { flags["kerberos.enabled"] = false }},
		{"another service name", func(w *demo.World, flags map[string]any, cfg *appConfig) {
			flags["kerberos.spn"] = "HTTP/localhost"
		}},
		{"everything goes to the servers", func(w *demo.World, _ map[string]any, cfg *appConfig) {
			cfg.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return w.Dial(ctx, network, demo.GitHost+":80")
			}
		}},
		{"everything goes to the corporate proxy", func(w *demo.World, _ map[string]any, cfg *appConfig) {
			cfg.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return w.Dial(ctx, network, fmt.Sprintf("%s:%d", demo.ProxyHost, demo.ProxyPort))
			}
		}},
		{"no network", func(_ *demo.World, _ map[string]any, cfg *appConfig) {
			cfg.dial = func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := demo.Start(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if _, err := w.Realm.Mint(realm.MintOptions{}); err != nil {
				t.Fatal(err)
			}
			conf, err := os.ReadFile(w.Realm.Krb5Conf())
			if err != nil {
				t.Fatal(err)
			}
			// One process has one KRB5_CONFIG; every world writes to the same.
			if err := os.WriteFile(demoConf(t), conf, 0o600); err != nil {
				t.Fatal(err)
			}
			flags := map[string]any{"kerberos.cache": "FILE:" + w.Realm.CachePath()}
			cfg := appConfig{dial: w.Dial}
			if tt.change != nil {
				tt.change(w, flags, &cfg)
			}
			a := startApp(t, fmt.Sprintf("upstream = [%q]\n[bypass]\nexact = [%q]\n[access]\nsame_user_only = false\n", w.Upstream(), demo.GitHost), flags, cfg)
			var out strings.Builder
			s := &script{world: w, app: a, out: &out, proxy: a.addrs()[0]}
			failed := s.play(t.Context())
			if (failed > 0) != (tt.change != nil) {
				t.Errorf("%d of %d lines failed:\n%s", failed, s.n, &out)
			}
			if secret := testenv.Secret(out.String(), "wonderland"); secret != "" {
				t.Errorf("the transcript holds a secret: %.20s…", secret)
			}
		})
	}
}

var demoConfOnce sync.Once

// demoConf is where this process's KRB5_CONFIG points; it is set before the
// Kerberos library is first called.
func demoConf(t *testing.T) string {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("kerbpass-test-%d.conf", os.Getpid()))
	demoConfOnce.Do(func() { os.Setenv("KRB5_CONFIG", path) })
	t.Cleanup(func() { os.Remove(path) })
	return path
}
