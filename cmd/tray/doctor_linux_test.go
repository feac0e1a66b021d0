//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// squidAlone answers about hosts that do not exist without asking a name
// server that may not be there.
var squidAlone = proxytest.SquidConfig{Extra: "dns_nameservers 127.0.0.1\ndns_timeout 1 second\ndns_retransmit_interval 1 second"}

// doctor runs "kerbpass doctor --json" as the user of h, behind prefix.
func (h *helper) doctor(wantCode int, prefix []string, args ...string) doctor.Report {
	h.t.Helper()
	argv := append(append(append([]string{}, prefix...), h.bin, "doctor", "--json"), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = h.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	if secret := testenv.Secret(stdout.String()+stderr.String(), "Correct-horse-7"); secret != "" {
		h.t.Errorf("doctor printed a secret: %.30s…", secret)
	}
	var r doctor.Report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || cmd.ProcessState.ExitCode() != wantCode {
		h.t.Fatalf("doctor %v: exit code %d, want %d, %v: %s\n%s", args, cmd.ProcessState.ExitCode(), wantCode, err, &stderr, r.Text(doctor.Look{Width: 160}))
	}
	return r
}

func leads(t *testing.T, r doctor.Report, id, cause string, words ...string) {
	t.Helper()
	f, _ := r.Leading()
	if f.ID != id || f.Cause != cause || r.First != id {
		t.Errorf("first finding: got %s %q, want %s %q\n%s", f.ID, f.Cause, id, cause, r.Text(doctor.Look{Width: 160}))
	}
	for _, w := range words {
		if !strings.Contains(f.Seen+"\n"+f.Action, w) {
			t.Errorf("%s: no %q in %q / %q", id, w, f.Seen, f.Action)
		}
	}
}

// The command against a running helper, a real KDC and a real Squid.
func TestWorldDoctor(t *testing.T) {
	w := newWorld(t, squidAlone)
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})

	r := h.doctor(0, nil)
	if _, found := r.Leading(); found {
		t.Errorf("not healthy:\n%s", r.Text(doctor.Look{Width: 160}))
	}
	text, code := h.kerbpass("doctor")
	if code != 0 || !strings.Contains(text, "Everything works") {
		t.Errorf("for people: exit code %d\n%s", code, text)
	}
	user := "alice@" + w.kdc.Realm
	w.squid.WaitLog(func(e proxytest.Entry) bool {
		return strings.Contains(e.URL, "kerbpass-test.invalid") && e.User == user && e.Status == "502"
	})

	t.Run("other values while the helper runs", func(t *testing.T) {
		r := h.doctor(0, nil, append(w.upstream("localhost"), "--listen", h.addr)...)
		if f, _ := r.Find("listener"); f.State != doctor.OK || !strings.Contains(f.Seen, h.addr+" is left alone") {
			t.Errorf("listener: %+v", f)
		}
		dead := fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t))
		leads(t, h.doctor(5, nil, "--listen", h.addr, "--upstream", dead), "tcp", "upstream_unreachable", dead)
	})
	t.Run("a terminal with another cache", func(t *testing.T) {
		other := *h
		other.env = append(append([]string{}, h.env...), "KRB5CCNAME="+fileCache(t), "HTTPS_PROXY=http://"+h.addr)
		r := other.doctor(0, nil) // the last of equal variables counts
		if f, _ := r.Find("caches"); !strings.Contains(f.Seen, cache) || !strings.Contains(f.Seen, "not the one of this terminal") {
			t.Errorf("caches: %q", f.Seen)
		}
		if f, _ := r.Find("upstream"); f.State != doctor.OK {
			t.Errorf("the terminal's own variables count: %+v", f)
		}
	})
	t.Run("a broken settings file", func(t *testing.T) {
		if err := os.WriteFile(h.config(), []byte("upstream = [\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(h.config())
		leads(t, h.doctor(5, nil), "settings", "internal", "config.toml:")
	})
	t.Run("no ticket", func(t *testing.T) {
		w.kdc.Run(cache, "", "kdestroy")
		defer w.kdc.Kinit(t, "alice", cache)
		leads(t, h.doctor(3, nil), "tgt", "no_ticket")
	})
	t.Run("the KDC is down", func(t *testing.T) {
		w.kdc.Kinit(t, "alice", cache) // without a ticket for Squid
		w.kdc.Stop()
		defer w.kdc.Start(t)
		leads(t, h.doctor(5, nil), "kdc", "kdc_unreachable")
	})
	t.Run("wrong clock", func(t *testing.T) {
		w.kdc.Kinit(t, "alice", cache)
		preload := "LD_PRELOAD=" + library(t, "faketime/libfaketime.so.1")
		for _, offset := range []string{"+10m", "-10m"} {
			// Go's own clock stays right, so it is the library that finds out.
			r := h.doctor(5, []string{"env", preload, "FAKETIME=" + offset})
			if f, _ := r.Leading(); f.Cause != "clock_skew" {
				t.Errorf("%s: got %s %q, want clock_skew\n%s", offset, f.ID, f.Cause, r.Text(doctor.Look{Width: 160}))
			}
		}
	})
	t.Run("Squid stops", func(t *testing.T) {
		w.squid.Stop()
		defer w.squid.Start()
		leads(t, h.doctor(5, nil), "tcp", "upstream_unreachable")
	})
}

// The helper was started with the variables that "kerbpass env" prints; the
// terminal has none of them.
func TestWorldDoctorLoop(t *testing.T) {
	w := &world{hosts: "/etc/hosts", kdc: tickettest.StartKDC(t)}
	own := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	h := start(t, setup{world: w, cache: fileCache(t), args: []string{"--listen", own}, env: []string{"HTTPS_PROXY=http://" + own}})
	other := *h
	other.env = h.env[:len(h.env)-1]
	leads(t, other.doctor(5, nil), "upstream", "loop_detected", own, "kerbpass env")
}

// Squid has a key of another time than the KDC.
func TestWorldDoctorTokenRefused(t *testing.T) {
	w := newWorld(t, squidAlone)
	stale := tickettest.StartKDC(t) // same names, other keys
	squid := squidAlone
	squid.Keytab, squid.Krb5Conf = stale.HTTPKeytab, w.kdc.Krb5Conf
	wrong := proxytest.StartSquid(t, squid)
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := prepare(t, setup{world: w, cache: cache})
	_, port, _ := net.SplitHostPort(wrong.Addr)
	leads(t, h.doctor(5, nil, "--upstream", "http://localhost:"+port, "--listen", "127.0.0.1:0"), "accepted", "token_refused", "HTTP/localhost", "keytab")
}

// inherited is a program that another process has built and removes.
func inherited(path string) *built {
	b := &built{}
	b.once.Do(func() { b.path = path })
	return b
}

// No packet to the KDC ever comes back: in a network of its own, whose route to
// the KDC ends nowhere.
func TestWorldDoctorKDCBehindAFirewall(t *testing.T) {
	testenv.Root(t)
	if os.Getenv("KERBPASS_INSIDE") == "" {
		cmd := exec.Command(testenv.Tool(t, "unshare"), "-n", "sh", "-c",
			testenv.Tool(t, "ip")+` link set lo up && ip route add 10.77.0.0/24 dev lo && exec "$@"`, "sh",
			os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=120s", "-test.v")
		cmd.Env = append(os.Environ(), "KERBPASS_INSIDE=1", "KERBPASS_BINARY="+binary(t, ""))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	binaries.Store("", inherited(os.Getenv("KERBPASS_BINARY")))
	kdc := tickettest.StartKDC(t)
	cache := fileCache(t)
	kdc.Kinit(t, "alice", cache)
	s := proxytest.Negotiating(t, proxytest.Any())
	_, port, _ := net.SplitHostPort(s.Addr)
	h := prepare(t, setup{world: &world{kdc: kdc}, conf: kdc.ConfFor(t, "10.77.0.9:88"), cache: cache})
	leads(t, h.doctor(5, nil, "--upstream", "http://localhost:"+port, "--listen", "127.0.0.1:0"), "kdc", "kdc_unreachable", "VPN")
	binaries.Delete("")
}

// The static build on a machine without any Kerberos configuration.
func TestWorldDoctorWithoutKerberos(t *testing.T) {
	s := proxytest.Negotiating(t, proxytest.Any())
	_, port, _ := net.SplitHostPort(s.Addr)
	h := prepare(t, setup{tags: "nogss", env: []string{"KRB5_CONFIG=/nonexistent/krb5.conf"}, cache: "KCM:"})
	r := h.doctor(5, nil, "--upstream", "http://localhost:"+port, "--listen", "127.0.0.1:0")
	f, _ := r.Leading()
	if f.Cause != "kerberos_unavailable" {
		t.Errorf("got %s %q\n%s", f.ID, f.Cause, r.Text(doctor.Look{Width: 160}))
	}
}

// One user's helper, another user's doctor.
func TestWorldDoctorOfAnotherUser(t *testing.T) {
	w := newWorld(t, squidAlone)
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})
	home, err := os.MkdirTemp("", "kerbpass-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	run := filepath.Join(home, "run")
	os.Mkdir(run, 0o700)
	for _, dir := range []string{home, run} {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(home, "config.toml")
	if err := os.WriteFile(conf, []byte("listen = [\""+h.addr+"\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(h.bin, "doctor", "--json", "--config", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + run}
	out, err := cmd.Output()
	var r doctor.Report
	if json.Unmarshal(out, &r) != nil || cmd.ProcessState.ExitCode() != 5 {
		t.Fatalf("%v %s", err, out)
	}
	leads(t, r, "listener", "not_your_user", h.addr, "another user")
}
