//go:build linux

package netwatch_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/netwatch"
	"kerbpass/internal/testenv"
)

const (
	patience = 20 * time.Second // on a loaded machine
	watching = "msg=watching source="
)

// inside tells the copy of this test program that runs in namespaces of its
// own, where it may change links, addresses, routes and files as it likes.
const inside = "KERBPASS_NETWATCH_NAMESPACE"

// ownNamespaces runs the calling test again in network and mount namespaces of
// its own, and reports whether this is that run.
func ownNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		return true
	}
	testenv.Root(t)
	testenv.Tool(t, "ip")
	unshare, mount := testenv.Tool(t, "unshare"), testenv.Tool(t, "mount")
	probe := exec.Command(unshare, "--net", "--mount", mount, "-t", "tmpfs", "none", "/etc")
	if out, err := probe.CombinedOutput(); err != nil {
		testenv.Missing(t, "permission for namespaces: %v: %s", err, out)
	}
	cmd := exec.Command(unshare, "--net", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in namespaces of its own: %v\n%s", err, out)
	}
	return false
}

// command runs a program that must succeed.
func command(t *testing.T, stdin string, argv ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, argv[0]), argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

func ip(t *testing.T, args string) {
	t.Helper()
	command(t, "", append([]string{"ip"}, strings.Fields(args)...)...)
}

// watch runs a Watcher until the test ends and returns when its log has said
// all texts, in any order. awaitLog waits for another.
func watch(t *testing.T, changed func(netwatch.Event), texts ...string) (awaitLog func(text string)) {
	t.Helper()
	r, w := io.Pipe()
	lines := make(chan string, 10_000)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(r); in.Scan(); {
			lines <- in.Text()
		}
	}()
	nw, err := netwatch.New(netwatch.Config{
		Log:    slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Settle: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- nw.Run(ctx, changed) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		w.Close()
	})
	wait := func(want map[string]bool) {
		t.Helper()
		for deadline := time.After(patience); len(want) > 0; {
			select {
			case line := <-lines:
				for text := range want {
					if strings.Contains(line, text) {
						delete(want, text)
					}
				}
			case <-deadline:
				t.Fatalf("the log does not say %v", want)
			}
		}
	}
	awaited := map[string]bool{}
	for _, text := range texts {
		awaited[text] = true
	}
	wait(awaited)
	return func(text string) { t.Helper(); wait(map[string]bool{text: true}) }
}

func tmpfs(t *testing.T, dir string) { command(t, "", "mount", "-t", "tmpfs", "none", dir) }

func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// The kernel's own messages, and the resolver's real place.
func TestRealChanges(t *testing.T) {
	testenv.NoLeaks(t)
	if !ownNamespaces(t) {
		return
	}
	tmpfs(t, "/etc")
	replaceFile(t, "/etc/resolv.conf", "nameserver 192.0.2.1\n")
	ip(t, "link set lo up")

	events := make(chan netwatch.Event, 100)
	watch(t, func(ev netwatch.Event) { events <- ev }, watching+"netlink", watching+"resolv.conf", watching+"clock")
	steps := 0
	expect := func(want string, change func()) {
		t.Helper()
		change()
		for deadline := time.After(patience); ; {
			select {
			case ev := <-events:
				if ev.Reason == want {
					steps++
					return
				}
				// A carrier follows a link by its own time.
				t.Logf("on the way to %q: %q", want, ev.Reason)
			case <-deadline:
				t.Fatalf("step %d: no event %q", steps, want)
			}
		}
	}
	run := func(args string) func() { return func() { t.Helper(); ip(t, args) } }

	expect(netwatch.Address, run("addr add 10.9.0.1/24 dev lo"))
	expect(netwatch.Address, run("-6 addr add fd00::1/64 dev lo valid_lft 2000 preferred_lft 1000"))
	expect(netwatch.Route, run("route add 10.8.0.0/16 dev lo"))
	expect(netwatch.Route, run("-6 route add fd01::/64 dev lo"))

	// Repetitions and neighbours are no news. Were they counted, the event
	// would have the heavier reason.
	for i, repetition := range []string{
		"-6 addr change fd00::1/64 dev lo valid_lft 4000 preferred_lft 3000",
		"addr change 10.9.0.1/24 dev lo valid_lft 4000 preferred_lft 3000",
		"route replace 10.8.0.0/16 dev lo",
		"neigh add 10.9.0.7 lladdr 02:00:00:00:00:01 dev lo",
	} {
		ip(t, repetition)
		replaceFile(t, "/etc/resolv.conf", fmt.Sprintf("nameserver 192.0.2.%d\n", i+2))
		select {
		case ev := <-events:
			if ev.Reason != netwatch.Resolver {
				t.Errorf("ip %s: got %q, want only the resolver's event behind it", repetition, ev.Reason)
			}
		case <-time.After(patience):
			t.Fatal("no event for the resolver")
		}
	}

	expect(netwatch.Route, run("route replace 10.8.0.0/16 dev lo src 10.9.0.1"))
	expect(netwatch.Route, run("route replace 10.8.0.0/16 dev lo"))
	expect(netwatch.Route, run("route del 10.8.0.0/16"))
	expect(netwatch.Address, run("-6 addr del fd00::1/64 dev lo"))
	expect(netwatch.Address, run("addr del 10.9.0.1/24 dev lo"))
	expect(netwatch.Link, run("link add nw0 type veth peer name nw1"))
	ip(t, "link set nw0 addrgenmode none") // so that no address comes along
	ip(t, "link set nw1 addrgenmode none")
	expect(netwatch.Link, run("link del nw0"))
}

// More changes than the socket holds, while nobody reads it.
func TestFlood(t *testing.T) {
	testenv.NoLeaks(t)
	if !ownNamespaces(t) {
		return
	}
	ip(t, "link set lo up")
	events, release := make(chan netwatch.Event, 1000), make(chan bool)
	awaitLog := watch(t, func(ev netwatch.Event) {
		events <- ev
		<-release
	}, watching+"netlink")
	ip(t, "addr add 10.9.0.1/24 dev lo")
	<-events // and from now on it listens to nobody

	var batch strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&batch, "route add 10.%d.%d.0/24 dev lo\n", 100+i/250, i%250)
	}
	command(t, batch.String(), "ip", "-batch", "-")
	close(release)
	awaitLog("changes were lost")
	await := func(want string, change func()) {
		t.Helper()
		for deadline := time.After(patience); ; {
			change()
			select {
			case ev := <-events:
				if ev.Reason == want {
					return
				}
			case <-deadline:
				t.Fatalf("no event %q", want)
			}
		}
	}
	await(netwatch.Address, func() {}) // the heaviest reason for what is not known
	name := 0
	await(netwatch.Link, func() { // and it goes on watching
		name++
		ip(t, fmt.Sprintf("link add nw%da type veth peer name nw%db", name, name))
	})
}

// Nothing there at all: no bus, no resolver's file, and it still runs and ends.
func TestBareSystem(t *testing.T) {
	testenv.NoLeaks(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	watch(t, func(netwatch.Event) {}, watching+"clock", `msg="source left out" source=logind`)
}
