//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// typed runs a command of the user with text on its standard input.
func (h *helper) typed(stdin string, args ...string) (out string, code int) {
	h.t.Helper()
	cmd := exec.Command(h.bin, args...)
	cmd.Env = h.env
	cmd.Stdin = strings.NewReader(stdin)
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	if secret := testenv.Secret(string(b), strings.Fields(stdin)...); secret != "" {
		h.t.Errorf("kerbpass %v printed a secret: %.30s…", args, secret)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// ticketJSON is the part of status that these tests look at.
type ticketJSON struct {
	Ticket struct {
		State, Principal, Cache, Backend string
		Start, Expires                   string
		Renewable                        bool
		Renewal                          struct{ Mode, Next, Error string }
	}
	Tickets []struct {
		Principal, Realm, Cache, Error string
		Default                        bool
		UsedHere                       bool `json:"used_for_proxy"`
		TGTs, Services                 []struct {
			Name, Expires, EncType string
			RenewUntil             string `json:"renew_until"`
			Flags                  []string
		}
	}
	Problems []struct{ Cause, Text, Hint string }
}

func (h *helper) status() (r ticketJSON) {
	h.t.Helper()
	out, _ := h.kerbpass("status", "--json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return r
}

func TestLoginRenewLogout(t *testing.T) {
	for _, tags := range []string{"", "nogss"} {
		t.Run("tags="+tags, func(t *testing.T) {
			w := newWorld(t, proxytest.SquidConfig{})
			cache := fileCache(t)
			h := start(t, setup{world: w, cache: cache, tags: tags, args: w.upstream("localhost")})
			h.want("502", "no_ticket", w.url("web.world.test"))

			// The terminal's own cache is another one; the helper's counts.
			for i, v := range h.env {
				if strings.HasPrefix(v, "KRB5CCNAME=") {
					h.env[i] = "KRB5CCNAME=FILE:" + h.home + "/elsewhere"
				}
			}
			out, code := h.typed(w.kdc.Password+"\n", "login", "--password-stdin", "alice")
			if code != 0 || !strings.HasPrefix(out, "Signed in: alice@"+w.kdc.Realm+" until ") || !strings.Contains(out, cache) {
				t.Fatalf("login: exit code %d: %s", code, out)
			}
			h.want("200", "", w.url("web.world.test"))
			before := h.status()
			if before.Ticket.State != "valid" || !before.Ticket.Renewable || before.Ticket.Renewal.Mode != "auto" {
				t.Errorf("got %+v", before.Ticket)
			}

			time.Sleep(time.Second) // tickets count in seconds
			out, code = h.typed("", "renew", "--json")
			var renewed struct {
				Ticket struct{ Principal, Start string }
			}
			if err := json.Unmarshal([]byte(out), &renewed); err != nil || code != 0 || renewed.Ticket.Start <= before.Ticket.Start {
				t.Errorf("renew: exit code %d, %v: %s", code, err, out)
			}
			after := h.status()
			if after.Ticket.Start <= before.Ticket.Start || after.Ticket.Renewal.Next == "" {
				t.Errorf("the helper sees %+v", after.Ticket)
			}
			if c := after.Tickets[0]; len(c.Services) != 1 || c.Services[0].Name != "HTTP/localhost@"+w.kdc.Realm || c.Services[0].EncType == "" {
				t.Errorf("the proxy's ticket was not fetched along: %+v", c)
			}
			h.want("200", "", w.url("web.world.test"))

			// A login without a name is for whoever signed in last.
			if out, code := h.typed(w.kdc.Password, "login", "--password-stdin"); code != 0 || !strings.Contains(out, "alice@") {
				t.Errorf("again: exit code %d: %s", code, out)
			}
			if out, code := h.typed("", "logout"); code != 0 || !strings.Contains(out, "alice@"+w.kdc.Realm+" is gone") {
				t.Errorf("logout: exit code %d: %s", code, out)
			}
			h.want("502", "no_ticket", w.url("web.world.test"))
			for _, args := range [][]string{{"logout"}, {"renew"}} {
				if out, code := h.typed("", args...); code != 3 || !strings.Contains(out, "There is no ticket.\nSign in: kerbpass login") {
					t.Errorf("%v without a ticket: exit code %d: %s", args, code, out)
				}
			}
		})
	}
}

func TestRefusedLogin(t *testing.T) {
	for _, tags := range []string{"", "nogss"} {
		t.Run("tags="+tags, func(t *testing.T) {
			kdc := tickettest.StartKDC(t)
			w := &world{kdc: kdc}
			h := prepare(t, setup{world: w, cache: fileCache(t), tags: tags})
			if out, code := h.typed(kdc.Password+"\n", "login", "--password-stdin", "alice"); code != 0 {
				t.Fatalf("exit code %d: %s", code, out)
			}
			before := h.status().Ticket
			for _, tt := range []struct {
				who, password, says string
				attempts            int
			}{
				{"alice", "Wrong-word-1\n", "does not accept the password", 1},
				{"alice@" + kdc.Realm, "Wrong-word-1\nanother\n", "does not accept the password", 1},
				{"alice", "", "There is no line on standard input for the question", 0},
				{"nobody", "Any-word-1\n", "does not know nobody", 0},
				{"locked", kdc.Password, "has locked or disabled this account", 0},
				{"alice@NOWHERE.TEST", "Any-word-1\n", "No KDC answers", 0},
			} {
				failed := kdc.Attempts(t)
				out, code := h.typed(tt.password, "login", "--password-stdin", tt.who)
				if code != 1 || !strings.Contains(out, tt.says) || strings.Count(strings.TrimSpace(out), "\n") > 1 {
					t.Errorf("%s: exit code %d, want one sentence and one hint with %q:\n%s", tt.who, code, tt.says, out)
				}
				if tt.attempts == 1 && !strings.Contains(out, kdc.Realm) {
					t.Errorf("%s: the realm is not named:\n%s", tt.who, out)
				}
				if n := kdc.Attempts(t) - failed; n != tt.attempts {
					t.Errorf("%s: %d failed attempts at the KDC, want %d", tt.who, n, tt.attempts)
				}
			}
			if after := h.status().Ticket; after != before {
				t.Errorf("a refused login changed the ticket from %+v to %+v", before, after)
			}
			kdc.Stop()
			if out, code := h.typed(kdc.Password, "login", "--password-stdin", "alice"); code != 1 || !strings.Contains(out, "No KDC answers") {
				t.Errorf("KDC down: exit code %d: %s", code, out)
			}
			if out, code := h.typed("", "renew"); code != 1 || !strings.Contains(out, "No KDC answers") {
				t.Errorf("renew, KDC down: exit code %d: %s", code, out)
			}
			if out, code := h.typed("", "login", "alice"); code != 2 || !strings.Contains(out, "--password-stdin") {
				t.Errorf("without a terminal: exit code %d: %s", code, out)
			}
		})
	}
}

func TestLoginWithExpiredPassword(t *testing.T) {
	for _, tags := range []string{"", "nogss"} {
		t.Run("tags="+tags, func(t *testing.T) {
			kdc := tickettest.StartKDC(t, tickettest.WithKpasswd())
			h := prepare(t, setup{world: &world{kdc: kdc}, cache: fileCache(t), tags: tags})
			if out, code := h.typed(kdc.Password+"\n", "login", "--password-stdin", "expired"); code != 1 {
				t.Errorf("without a new one: exit code %d: %s", code, out)
			}
			const fresh = "Another-horse-8"
			out, code := h.typed(kdc.Password+"\n"+fresh+"\n"+fresh+"\n", "login", "--password-stdin", "expired")
			if code != 0 || !strings.Contains(out, "Signed in: expired@"+kdc.Realm) {
				t.Fatalf("exit code %d: %s", code, out)
			}
			if out, code := h.typed(fresh+"\n", "login", "--password-stdin", "expired"); code != 0 {
				t.Errorf("with the new one: exit code %d: %s", code, out)
			}
			if out, code := h.typed(kdc.Password+"\n", "login", "--password-stdin", "expired"); code != 1 || !strings.Contains(out, "does not accept") {
				t.Errorf("with the old one: exit code %d: %s", code, out)
			}
		})
	}
}

// pty opens a terminal of its own and returns both ends.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	var n, unlock uint32
	for _, call := range []struct {
		request uintptr
		arg     *uint32
	}{{syscall.TIOCSPTLCK, &unlock}, {syscall.TIOCGPTN, &n}} {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), call.request, uintptr(unsafe.Pointer(call.arg))); e != 0 {
			t.Fatal(e)
		}
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	var attr syscall.Termios
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&attr))); e != 0 {
		t.Fatal(e)
	}
	return attr.Lflag&syscall.ECHO != 0
}

// On a terminal the password is asked for without being shown, and Ctrl-C
// leaves the terminal as it was.
func TestLoginAsksInTheTerminal(t *testing.T) {
	kdc := tickettest.StartKDC(t)
	h := prepare(t, setup{world: &world{kdc: kdc}, cache: fileCache(t)})
	for _, cancel := range []bool{false, true} {
		master, slave := pty(t)
		cmd := exec.Command(h.bin, "login", "alice")
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.env, slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		shown := readUntil(t, master, "Password for alice@"+kdc.Realm+": ")
		for deadline := time.Now().Add(20 * time.Second); echoes(t, slave); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the terminal shows what is typed")
			}
		}
		typed, end := kdc.Password+"\n", "Signed in: "
		if cancel {
			typed, end = "Corr\x03", "Given up; nothing was changed."
		}
		if _, err := io.WriteString(master, typed); err != nil {
			t.Fatal(err)
		}
		shown += readUntil(t, master, end)
		err := cmd.Wait()
		if (err == nil) == cancel {
			t.Errorf("cancelled=%t: %v\n%s", cancel, err, shown)
		}
		if strings.Contains(shown, "Corr") {
			t.Errorf("the password was shown:\n%s", shown)
		}
		if !echoes(t, slave) {
			t.Errorf("cancelled=%t: the terminal was left without echo", cancel)
		}
	}
}

func readUntil(t *testing.T, f *os.File, text string) string {
	t.Helper()
	var all []byte
	buf := make([]byte, 1024)
	for !bytes.Contains(all, []byte(text)) {
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("want %q, got %v after:\n%s", text, err, all)
		}
		all = append(all, buf[:n]...)
	}
	return string(all)
}

// What other programs do to the tickets is noticed by itself: nothing asks the
// helper meanwhile, its own log tells.
func TestChangesOutsideAreNoticed(t *testing.T) {
	for _, kind := range []string{"FILE", "DIR", "KEYRING", "KCM"} {
		t.Run(kind, func(t *testing.T) {
			var opts []tickettest.KDCOption
			if kind == "KCM" {
				opts = append(opts, tickettest.WithLibdefaults("kcm_socket = "+tickettest.StartKCM(t)))
			}
			w := newWorld(t, proxytest.SquidConfig{}, opts...)
			cache := fileCache(t)
			switch kind {
			case "DIR":
				cache = "DIR:" + t.TempDir()
			case "KCM":
				cache = "KCM:"
			case "KEYRING":
				cache = fmt.Sprintf("KEYRING:user:kerbpass-tray-%d", os.Getpid())
				t.Cleanup(func() { w.kdc.Run(cache, "", "kdestroy", "-A") })
			}
			h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})
			seen := 0
			told := func(want string) {
				t.Helper()
				var now string
				for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
					if now = h.log.String()[seen:]; strings.Contains(now, want) {
						seen += len(now)
						return
					}
				}
				t.Errorf("want %q, the helper says:\n%s", want, now)
			}
			told("msg=ticket state=none")
			w.kdc.Kinit(t, "alice", cache)
			told("msg=ticket state=valid principal=alice@")
			if kind != "FILE" {
				w.kdc.Kinit(t, "shorty", cache) // its own cache, which becomes the default
				told("principal=shorty@")
				if out, err := w.kdc.Run(cache, "", "kswitch", "-p", "alice"); err != nil {
					t.Fatalf("kswitch: %v\n%s", err, out)
				}
				told("principal=alice@")
				w.kdc.Run(cache, "", "kswitch", "-p", "shorty")
				told("principal=shorty@")
			}
			w.kdc.Run(cache, "", "kdestroy", "-A")
			told("msg=ticket state=none")
		})
	}
}

// Tickets of one minute that can be renewed for ten: a client never notices.
func TestTicketsOfOneMinute(t *testing.T) {
	t.Parallel()
	long := 80 * time.Second // past the first ticket's end
	if d, err := time.ParseDuration(os.Getenv("KERBPASS_RENEWALS")); err == nil {
		long = d
	}
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "shorty", cache)
	h := start(t, setup{world: w, cache: cache, level: "info", args: w.upstream("localhost")})
	n := 0
	for end := time.Now().Add(long); time.Now().Before(end) && !t.Failed(); n++ {
		h.want("200", "", w.url("web.world.test"))
		h.want("200", "", "-p", w.url("web.world.test"))
	}
	renewed := strings.Count(h.log.String(), "msg=\"ticket renewed\"")
	if renewed < int(long/time.Minute) {
		t.Errorf("%d renewals in %v", renewed, long)
	}
	if strings.Contains(h.log.String(), "msg=reminder") {
		t.Error("the person was disturbed")
	}
	t.Logf("%d requests and tunnels, %d renewals", n, renewed)
}

// Two realms in one collection: the upstream's realm decides, not the default.
func TestCacheOfTheUpstreamsRealm(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	other := tickettest.StartKDC(t, tickettest.WithRealm("OTHER.TEST"))
	conf := filepath.Join(t.TempDir(), "krb5.conf")
	mergeRealms(t, conf, w.kdc.Krb5Conf, other.Krb5Conf)
	cache := "DIR:" + t.TempDir()
	w.kdc.Kinit(t, "alice", cache)
	other.Kinit(t, "alice", cache) // becomes the default
	h := start(t, setup{world: w, conf: conf, cache: cache, args: w.upstream("localhost")})
	h.want("200", "", w.url("web.world.test"))
	r := h.status()
	if r.Ticket.Principal != "alice@WORLD.TEST" {
		t.Errorf("uses %+v", r.Ticket)
	}
	if len(r.Tickets) != 2 {
		t.Fatalf("got %+v", r.Tickets)
	}
	for _, c := range r.Tickets {
		if c.UsedHere != (c.Realm == "WORLD.TEST") || c.Default != (c.Realm == "OTHER.TEST") {
			t.Errorf("got %+v", c)
		}
		if len(c.TGTs) != 1 || c.TGTs[0].Name != "krbtgt/"+c.Realm+"@"+c.Realm || !strings.Contains(strings.Join(c.TGTs[0].Flags, " "), "renewable initial") || c.TGTs[0].RenewUntil == "" {
			t.Errorf("TGTs: %+v", c.TGTs)
		}
	}
}

// mergeRealms writes the first krb5.conf with the second one's realm added.
func mergeRealms(t *testing.T, path, first, second string) {
	t.Helper()
	read := func(p string) string {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, realms, _ := strings.Cut(read(second), "[realms]\n")
	realms, _, _ = strings.Cut(realms, "[domain_realm]")
	text := strings.Replace(read(first), "[realms]\n", "[realms]\n"+realms, 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A ticket in a cache of another session is not used, but status says where it
// lies.
func TestTicketOfAnotherSession(t *testing.T) {
	testenv.Root(t)
	kdc := tickettest.StartKDC(t)
	file := filepath.Join(os.TempDir(), fmt.Sprintf("krb5cc_%d_kerbpass%d", os.Geteuid(), os.Getpid()))
	t.Cleanup(func() { os.Remove(file) })
	kdc.Kinit(t, "alice", "FILE:"+file)
	h := prepare(t, setup{world: &world{kdc: kdc}, cache: fileCache(t)})
	found := false
	for _, p := range h.status().Problems {
		if strings.Contains(p.Text, "alice@WORLD.TEST lies in FILE:"+file) {
			found = strings.Contains(p.Hint, strconv.Quote("FILE:"+file))
		}
	}
	if !found {
		t.Errorf("not explained: %+v", h.status().Problems)
	}

	kdc.Kinit(t, "brief", "FILE:"+file)
	says := func(p struct{ Cause, Text, Hint string }) bool { return strings.Contains(p.Text, file) }
	for deadline := time.Now().Add(30 * time.Second); slices.ContainsFunc(h.status().Problems, says); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a ticket that has ended is still recommended")
		}
	}
}

// A cache that the settings name is the only one that the helper looks at, even
// if it is one of a collection.
func TestLoginIntoTheCacheOfTheSettings(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := "DIR::" + t.TempDir() + "/tktone"
	h := start(t, setup{world: w, cache: fileCache(t), file: "[kerberos]\ncache = \"" + cache + "\"\n", args: w.upstream("localhost")})
	if out, code := h.typed(w.kdc.Password, "login", "--password-stdin", "alice"); code != 0 || !strings.Contains(out, cache) {
		t.Errorf("exit code %d: %s", code, out)
	}
	h.want("200", "", w.url("web.world.test"))
	if out, code := h.typed("", "logout"); code != 0 || !strings.Contains(out, cache) {
		t.Errorf("logout: exit code %d: %s", code, out)
	}
	h.want("502", "no_ticket", w.url("web.world.test"))
}

// While a sign-in is under way, the password is in no argument, no variable
// and no output, and a crash would leave no core.
func TestPasswordLeavesNoTrace(t *testing.T) {
	kdc := tickettest.StartKDC(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // a KDC that never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	h := prepare(t, setup{world: &world{kdc: kdc}, conf: kdc.ConfFor(t, silent.Addr().String()), cache: fileCache(t)})
	const password = "Tell-nobody-4711"
	cmd := exec.Command(h.bin, "--log-level", "debug", "login", "--password-stdin", "alice")
	var said bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.env, strings.NewReader(password+"\n"), &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	silent.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := silent.Accept()
	if err != nil {
		t.Fatalf("the KDC is not asked: %v", err)
	}
	defer conn.Close()
	limits, err := os.ReadFile(proc + "limits")
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("a core may be dumped: %v\n%s", err, limits)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(all) < 2 {
		t.Fatalf("%v, %d processes", err, len(all))
	}
	for _, dir := range all {
		for _, name := range []string{"/cmdline", "/environ"} {
			if text, _ := os.ReadFile(dir + name); bytes.Contains(text, []byte(password)) {
				t.Errorf("the password is in %s%s", dir, name)
			}
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if strings.Contains(said.String(), password) {
		t.Errorf("the password is in the output:\n%s", &said)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keyring gives the user a session bus with an unlocked gnome-keyring.
func (h *helper) keyring() {
	h.t.Helper()
	var addr string
	for _, args := range [][]string{
		{"dbus-daemon", "--session", "--nofork", "--print-address=1"},
		{"gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock", "--control-directory=" + h.home + "/keyring"},
	} {
		cmd := exec.Command(testenv.Tool(h.t, args[0]), args[1:]...)
		cmd.Env = h.env
		cmd.Stdin = strings.NewReader("opens-the-keyring")
		out, err := cmd.StdoutPipe()
		if err != nil {
			h.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		})
		if addr == "" {
			buf := make([]byte, 1024)
			n, err := out.Read(buf)
			if err != nil {
				h.t.Fatal(err)
			}
			addr = strings.TrimSpace(string(buf[:n]))
			h.env = append(h.env, "DBUS_SESSION_BUS_ADDRESS="+addr)
		}
	}
}

// A remembered password signs in once when the ticket has ended, and is gone
// after its first refusal.
func TestRememberedPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	// A private bus and keyring, which the helper and the commands share.
	desktop := prepare(t, setup{world: w, cache: cache, file: "[kerberos]\nrenew = \"off\"\n"})
	desktop.keyring()
	env := append(desktop.env, "XDG_CONFIG_HOME="+desktop.home+"/config", "XDG_RUNTIME_DIR="+desktop.home+"/run", "HOME="+desktop.home)
	begin := func() *helper {
		return start(t, setup{world: w, cache: cache, env: env, args: w.upstream("localhost")})
	}

	login := func(password string, args ...string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) { // the keyring may be starting
			out, code := desktop.typed(password+"\n", append([]string{"login", "--password-stdin"}, args...)...)
			if code == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("exit code %d: %s", code, out)
			}
		}
	}
	login(w.kdc.Password, "--remember", "brief")
	who := "brief@" + w.kdc.Realm
	if text := readFile(t, desktop.config()); !strings.Contains(text, "remember = \""+who+"\"") || strings.Contains(text, w.kdc.Password) {
		t.Errorf("settings:\n%s", text)
	}

	h := begin()
	wait := func(h *helper, text string, n int) {
		t.Helper()
		for deadline := time.Now().Add(40 * time.Second); strings.Count(h.log.String(), text) < n; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("want %d times %q:\n%s", n, text, h.log)
			}
		}
	}
	wait(h, "signed in with the remembered password", 2) // tickets live for five seconds
	h.want("200", "", w.url("web.world.test"))
	before := w.kdc.Attempts(t)
	out, err := w.kdc.RunEnv([]string{"KRB5_KDC_PROFILE=" + w.kdc.Dir + "/kdc.conf"}, "", "", testenv.Tool(t, "kadmin.local"), "-r", w.kdc.Realm, "-q", "cpw -pw Another-horse-9 brief")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wait(h, "remembered password was refused and is forgotten", 1)
	h.want("502", "ticket_expired", w.url("web.world.test"))
	h.stop()
	if text := readFile(t, desktop.config()); strings.Contains(text, who) {
		t.Errorf("settings after the refusal:\n%s", text)
	}
	h = begin() // the ticket has expired
	h.want("502", "ticket_expired", w.url("web.world.test"))
	if n := w.kdc.Attempts(t) - before; n != 1 {
		t.Errorf("%d failed attempts at the KDC, want 1", n)
	}
	login("Another-horse-9", "brief")
	h.want("200", "", w.url("web.world.test"))

	// With the person's own hand it can be removed before that.
	login("Another-horse-9", "--remember", "brief")
	if out, code := desktop.typed("", "login", "--forget"); code != 0 {
		t.Errorf("--forget: exit code %d: %s", code, out)
	}
	if text := readFile(t, desktop.config()); strings.Contains(text, who) {
		t.Errorf("settings after --forget:\n%s", text)
	}
}

// A cache that blocks for ever, as on a network folder that is away: status
// says so and ends.
func TestStatusOfABlockingCache(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "cc")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	h := prepare(t, setup{world: &world{kdc: tickettest.StartKDC(t)}, cache: "FILE:" + fifo})
	if r := h.status(); r.Ticket.State != "unavailable" {
		t.Errorf("got %+v", r.Ticket)
	}
}

// While another program renews the ticket again and again, no client notices.
func TestRenewalsUnderLoad(t *testing.T) {
	for _, kind := range []string{"FILE", "DIR", "KEYRING", "KCM"} {
		t.Run(kind, func(t *testing.T) {
			var opts []tickettest.KDCOption
			cache := fileCache(t)
			switch kind {
			case "DIR":
				cache = "DIR:" + t.TempDir()
			case "KEYRING":
				cache = fmt.Sprintf("KEYRING:user:kerbpass-load-%d", os.Getpid())
			case "KCM":
				cache = "KCM:"
				opts = append(opts, tickettest.WithLibdefaults("kcm_socket = "+tickettest.StartKCM(t)))
			}
			w := newWorld(t, proxytest.SquidConfig{}, opts...)
			t.Cleanup(func() { w.kdc.Run(cache, "", "kdestroy", "-A") })
			w.kdc.Kinit(t, "alice", cache)
			h := start(t, setup{world: w, cache: cache, level: "info", args: w.upstream("localhost")})
			proxy := &url.URL{Scheme: "http", Host: h.addr}
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}}

			end := time.Now().Add(6 * time.Second)
			var answers, renewals atomic.Int64
			var all sync.WaitGroup
			all.Go(func() {
				for time.Now().Before(end) {
					if out, err := w.kdc.Run(cache, "", "kinit", "-R"); err == nil {
						renewals.Add(1)
					} else {
						t.Logf("kinit -R: %v %s", err, out) // they get in each other's way at times
					}
				}
			})
			for range 8 {
				all.Go(func() {
					for time.Now().Before(end) {
						resp, err := client.Get(w.url("web.world.test"))
						if err != nil {
							t.Error(err)
							return
						}
						resp.Body.Close()
						if resp.StatusCode != 200 {
							t.Errorf("got %s, %s", resp.Status, resp.Header.Get("Proxy-Status"))
						}
						answers.Add(1)
					}
				})
			}
			all.Wait()
			if renewals.Load() < 3 || answers.Load() < 8 {
				t.Errorf("%d answers, %d renewals", answers.Load(), renewals.Load())
			}
			t.Logf("%d answers during %d renewals", answers.Load(), renewals.Load())
		})
	}
}
