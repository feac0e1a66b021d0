//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// doorsStatus is what the tests below read of the status.
type doorsStatus struct {
	Proxy struct {
		Listen, Socks []string
		Forwards      []struct{ Listen, To string }
		Gateway       *struct{ Listen, Allow, Clients []string }
		Closed        []struct{ Listen, Key, Error string }
		Restart       []string `json:"needs_restart"`
	}
}

func (h *helper) doors() (s doorsStatus) {
	h.t.Helper()
	out, _ := h.kerbpass("status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		h.t.Fatal(err, out)
	}
	return s
}

// SOCKS5, a fixed forward and the auto-configuration of a running program, at a
// real Squid, and its counters.
func TestWorldDoors(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	h := start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--bypass", "git.world.test"),
		file: fmt.Sprintf("tunnel = [\"127.0.0.1:0=web.world.test:%s\", %q]\n[socks]\nlisten = [\"127.0.0.1:0\"]\n", w.port, taken.Addr().String()+"=web.world.test:80")})
	s := h.doors()
	if len(s.Proxy.Socks) != 1 || len(s.Proxy.Forwards) != 1 || s.Proxy.Gateway != nil || len(s.Proxy.Closed) != 1 || s.Proxy.Closed[0].Listen != taken.Addr().String() {
		t.Fatalf("status: %+v", s.Proxy)
	}
	curl := func(want string, args ...string) {
		t.Helper()
		cmd := exec.Command(testenv.Tool(t, "curl"), append([]string{"-sS", "--max-time", "60", "--noproxy", ""}, args...)...)
		cmd.Env = h.env
		if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), want) {
			t.Errorf("curl %v: %v, want %q in %q", args, err, want, out)
		}
	}
	tunnels := func(host string) int {
		return len(w.logged(t, 0, func(e proxytest.Entry) bool {
			return e.Method == "CONNECT" && e.URL == host+":"+w.port && e.Status == "200" && e.User == "alice@"+w.kdc.Realm
		}))
	}
	socks := s.Proxy.Socks[0]
	curl("hello from web.world.test", "--socks5-hostname", socks, w.url("web.world.test"))
	curl("hello from git.world.test", "--socks5-hostname", socks, w.url("git.world.test"))
	curl("hello from notgit.world.test", "--socks5-hostname", socks, w.url("notgit.world.test"))
	curl("curl: (97)", "--socks5-hostname", socks, "http://"+h.addr+"/") // the helper itself
	curl("hello from web.world.test", "-H", "Host: web.world.test", "http://"+s.Proxy.Forwards[0].Listen+"/")
	w.logged(t, 2, func(e proxytest.Entry) bool {
		return e.Method == "CONNECT" && strings.HasPrefix(e.URL, "web.world.test:")
	})
	if n := tunnels("git.world.test"); n != 0 {
		t.Errorf("Squid saw %d tunnels to the bypassed host", n)
	}

	// The auto-configuration: of this address, and to nobody's page.
	curl(`var proxy = "PROXY `+h.addr+`";`, "http://"+h.addr+"/kerbpass.pac")
	curl(`"=git.world.test":1`, "http://"+h.addr+"/kerbpass.pac")
	curl("400", "-o", os.DevNull, "-w", "%{http_code}", "-H", "Host: evil.test", "http://"+h.addr+"/kerbpass.pac")

	t.Run("counters", func(t *testing.T) {
		text, code := h.kerbpass("metrics")
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, text)
		}
		v := openMetrics(t, text)
		for series, want := range map[string]float64{
			`kerbpass_requests_total{route="proxy",result="ok"}`: 3, `kerbpass_requests_total{route="direct",result="ok"}`: 1,
			`kerbpass_requests_total{route="refused",result="refused"}`: 2, `kerbpass_failures_total{cause="loop_detected"}`: 1,
			`kerbpass_authentications_total{result="accepted"}`: 3, `kerbpass_tunnels`: 0, `kerbpass_kerberos_enabled`: 1,
		} {
			if v[series] != want {
				t.Errorf("%s: got %v, want %v", series, v[series], want)
			}
		}
		if v["kerbpass_token_seconds_count"] < 3 || v["kerbpass_token_seconds_sum"] <= 0 || v["kerbpass_ticket_left_seconds"] < 3600 || v[`kerbpass_bytes_total{direction="down"}`] < 50 {
			t.Errorf("tokens, ticket or bytes: %v", v)
		}
		if strings.Contains(text, "world.test") || strings.Contains(text, "alice") {
			t.Error("a name is in the counters")
		}
		// As documented: without our own command.
		out, err := exec.Command(testenv.Tool(t, "curl"), "-sS", "--fail", "-D", "-", "--unix-socket", filepath.Join(h.home, "run", "kerbpass", "control.sock"), "http://kerbpass/v1/metrics").CombinedOutput()
		head, body, _ := strings.Cut(string(out), "\r\n\r\n")
		if err != nil || !strings.Contains(head, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8") {
			t.Fatalf("curl: %v %s", err, head)
		}
		openMetrics(t, body)
	})

	// What counts from the next start is said.
	h.kerbpass("metrics")
	b, err := os.ReadFile(h.config())
	if err == nil {
		err = os.WriteFile(h.config(), []byte(strings.Replace(string(b), "[socks]\nlisten = [\"127.0.0.1:0\"]", "[socks]\nlisten = []", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if now := h.doors().Proxy.Restart; len(now) == 1 && now[0] == "socks.listen" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("restart: %v", h.doors().Proxy.Restart)
		}
	}
}

var (
	metricLine = regexp.MustCompile(`^([a-z][a-z0-9_]*)(\{[a-z]+="[^"\\\n]*"(?:,[a-z]+="[^"\\\n]*")*\})? (-?[0-9]+(?:\.[0-9]+)?)$`)
	metricMeta = regexp.MustCompile(`^# (TYPE|UNIT|HELP) ([a-z][a-z0-9_]*) (.+)$`)
	suffixes   = map[string][]string{"counter": {"_total"}, "gauge": {""}, "info": {"_info"}, "summary": {"_count", "_sum"}}
)

// openMetrics reads text as strictly as OpenMetrics 1.0 has it: families in one
// piece, TYPE, UNIT and HELP first, suffixes by type, each series once, # EOF.
func openMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	rest, ok := strings.CutSuffix(text, "# EOF\n")
	if !ok {
		t.Fatalf("no # EOF at the end: %q", text)
	}
	seen, family, kind, started := map[string]bool{}, "", "", false
	for _, line := range strings.Split(strings.TrimSuffix(rest, "\n"), "\n") {
		if m := metricMeta.FindStringSubmatch(line); m != nil {
			if m[2] != family {
				if seen[m[2]] || m[1] != "TYPE" {
					t.Errorf("%q begins family %s a second time, or without TYPE", line, m[2])
				}
				family, started = m[2], false
				seen[family] = true
			}
			if started {
				t.Errorf("%q comes after the family's samples", line)
			}
			switch m[1] {
			case "TYPE":
				kind = m[3]
			case "UNIT":
				if !strings.HasSuffix(family, "_"+m[3]) {
					t.Errorf("the unit %s is not the end of %s", m[3], family)
				}
			}
			continue
		}
		m := metricLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not understood: %q", line)
			continue
		}
		started = true
		fits := false
		for _, s := range suffixes[kind] {
			fits = fits || m[1] == family+s
		}
		if _, twice := values[m[1]+m[2]]; !fits || twice {
			t.Errorf("%q is a %s of family %s; or there twice", line, kind, family)
		}
		values[m[1]+m[2]], _ = strconv.ParseFloat(m[3], 64)
	}
	if len(values) < 40 {
		t.Errorf("only %d series", len(values))
	}
	return values
}

// A container has a network of its own, joined to this machine's by a pair of
// interfaces:
//
//	container 172.31.7.2 ──▶ 172.31.7.1 gateway ─▶ Squid
//	          172.31.8.2 ──▶ (not in gateway.allow)
func TestWorldGateway(t *testing.T) {
	testenv.Root(t)
	if os.Getenv("KERBPASS_INSIDE") == "" {
		cmd := exec.Command(testenv.Tool(t, "unshare"), "-n", "sh", "-c",
			testenv.Tool(t, "ip")+` link set lo up && exec "$@"`, "sh",
			os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=180s", "-test.v")
		cmd.Env = append(os.Environ(), "KERBPASS_INSIDE=1", "KERBPASS_BINARY="+binary(t, ""))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	binaries.Store("", inherited(os.Getenv("KERBPASS_BINARY")))
	t.Cleanup(func() { binaries.Delete("") }) // the program is the other process's
	container := exec.Command(testenv.Tool(t, "unshare"), "-n", "sleep", "600")
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { container.Process.Kill(); container.Wait() }()
	pid := strconv.Itoa(container.Process.Pid)
	own, _ := os.Readlink("/proc/self/ns/net")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if its, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil && its != own {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the container has no network of its own")
		}
	}
	sh := func(script string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", script, err, out)
		}
	}
	sh("ip link add kp0 type veth peer name kp1; ip link set kp1 netns " + pid +
		"; ip addr add 172.31.7.1/24 dev kp0; ip addr add 172.31.8.1/24 dev kp0; ip link set kp0 up" +
		"; nsenter -t " + pid + " -n sh -ec 'ip link set lo up; ip addr add 172.31.7.2/24 dev kp1; ip addr add 172.31.8.2/24 dev kp1; ip link set kp1 up'")

	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--bypass", "git.world.test"),
		file: "[gateway]\nenabled = true\nlisten = [\"172.31.7.1:0\"]\nallow = [\"172.31.7.0/24\"]\n"})
	s := h.doors()
	if s.Proxy.Gateway == nil || len(s.Proxy.Gateway.Listen) != 1 {
		t.Fatalf("status: %+v", s.Proxy)
	}
	h.waitLog("other machines can use your ticket")
	if out, _ := h.kerbpass("status"); !strings.Contains(out, "open to other machines on 172.31.7.1:") || !strings.Contains(out, "no client is admitted yet") {
		t.Errorf("status: %s", out)
	}
	gate := s.Proxy.Gateway.Listen[0]
	add := exec.Command(h.bin, "gateway", "add", "build", "--json") // whose output is a secret
	add.Env = h.env
	added, err := add.Output()
	var guest struct{ Name, Secret string }
	if err != nil || json.Unmarshal(added, &guest) != nil || len(guest.Secret) < 43 {
		t.Fatalf("gateway add: %v %s", err, added)
	}
	if b, _ := os.ReadFile(h.config()); strings.Contains(string(b), guest.Secret) || !strings.Contains(string(b), `"build:`) {
		t.Errorf("settings: %s", b)
	}
	if _, code := h.kerbpass("gateway", "add", "build"); code != 1 {
		t.Errorf("added twice: exit code %d", code)
	}
	// curl in the container; what it prints ends in the status.
	curl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("nsenter", append([]string{"-t", pid, "-n", testenv.Tool(t, "curl"), "-s", "--max-time", "60", "--noproxy", "", "-w", " %{http_code}"}, args...)...).CombinedOutput()
		return strings.TrimSpace(fmt.Sprintf("%s %v", out, err))
	}
	proxy := "http://build:" + guest.Secret + "@" + gate
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := curl("-x", proxy, w.url("web.world.test"))
		if strings.Contains(got, "hello from web.world.test") && strings.Contains(got, " 200") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with the secret: %s", got)
		}
	}
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"a tunnel", " 200", []string{"-p", "-x", proxy, w.url("web.world.test")}},
		{"a name of the exact list that leads to this machine", " 403", []string{"-x", proxy, w.url("git.world.test")}},
		{"no secret", " 407", []string{"-x", "http://" + gate, w.url("web.world.test")}},
		{"a wrong secret", " 407", []string{"-x", "http://build:" + strings.Repeat("x", 43) + "@" + gate, w.url("web.world.test")}},
		{"another name", " 407", []string{"-x", "http://other:" + guest.Secret + "@" + gate, w.url("web.world.test")}},
		{"another network, which gets no byte", "000 exit status 5", []string{"--interface", "172.31.8.2", "-x", proxy, w.url("web.world.test")}},
		{"this machine's loopback", " 403", []string{"-x", proxy, "http://127.0.0.1:" + w.port + "/"}},
		{"this machine by name", " 403", []string{"-x", proxy, "http://localhost:" + w.port + "/"}},
		{"the user's own listener", "000 exit status 7", []string{"-x", "http://172.31.7.1:" + h.addr[strings.LastIndex(h.addr, ":")+1:], w.url("web.world.test")}},
	} {
		if got := curl(tt.args...); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	w.logged(t, 2, func(e proxytest.Entry) bool { return e.Status == "200" && e.User == "alice@"+w.kdc.Realm })
	if out, _ := h.kerbpass("activity"); !strings.Contains(out, "gateway: build") {
		t.Errorf("activity does not name the guest: %s", out)
	}
	if strings.Contains(h.log.String(), guest.Secret) {
		t.Error("the secret is in the log")
	}
	// Gone at once.
	if out, code := h.kerbpass("gateway", "remove", "build"); code != 0 {
		t.Fatalf("gateway remove: %d %s", code, out)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := curl("-x", proxy, w.url("web.world.test"))
		if strings.Contains(got, " 407") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after remove: %s", got)
		}
	}
	if out, code := h.kerbpass("gateway", "remove", "build"); code != 1 {
		t.Errorf("removed twice: %d %s", code, out)
	}
}
