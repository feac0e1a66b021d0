package proxytest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// Squid is a running Squid that demands Negotiate, or what a test chooses.
type Squid struct {
	Dir, Addr string
	Port      int
	t         testing.TB
	cmd       *exec.Cmd
	env       []string
}

// SquidConfig is what a test can choose.
type SquidConfig struct {
	Keytab   string            // required unless Auth is set; any of its principals is accepted
	Auth     string            // auth_param lines instead of those for Negotiate; {dir} is Squid's folder
	Files    map[string]string // more files in it
	Krb5Conf string
	Extra    string // further lines of squid.conf
	Faketime string // offset for the whole server, such as "+600s"
}

// StartSquid starts the real thing on a free loopback port, as user proxy when
// the test runs as root. It ends with the test.
func StartSquid(t testing.TB, cfg SquidConfig) *Squid {
	t.Helper()
	bin := testenv.Tool(t, "squid")
	// Not t.TempDir: its parents are closed to user proxy.
	dir, err := os.MkdirTemp("", "kerbpass-squid-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	scheme := strings.ReplaceAll(cfg.Auth, "{dir}", dir)
	if scheme == "" {
		keytab, err := os.ReadFile(cfg.Keytab)
		must(err)
		must(os.WriteFile(filepath.Join(dir, "http.keytab"), keytab, 0o600))
		scheme = fmt.Sprintf(`auth_param negotiate program %s -k %s/http.keytab -s GSS_C_NO_NAME
auth_param negotiate children 8 startup=1 idle=1
auth_param negotiate keep_alive on`, testenv.Tool(t, "negotiate_kerberos_auth"), dir)
	}
	for name, text := range cfg.Files {
		must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	conf := []byte("[libdefaults]\n")
	if cfg.Krb5Conf != "" {
		var err error
		conf, err = os.ReadFile(cfg.Krb5Conf)
		must(err)
	}
	must(os.WriteFile(filepath.Join(dir, "krb5.conf"), conf, 0o644))
	s := &Squid{Dir: dir, Port: testenv.FreePort(t), t: t}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
	must(os.WriteFile(filepath.Join(dir, "squid.conf"), fmt.Appendf(nil, `http_port %s
visible_hostname proxy.world.test
pid_filename %[2]s/squid.pid
coredump_dir %[2]s
cache_log %[2]s/cache.log
logformat kerbpass %%ts.%%03tu %%>a:%%>p %%>Hs %%un %%rm %%ru
access_log stdio:%[2]s/access.log logformat=kerbpass
cache_store_log none
cache deny all
shutdown_lifetime 0 seconds
pinger_enable off
icp_port 0
netdb_filename none
%[3]s
acl authed proxy_auth REQUIRED
http_access deny !authed
http_access allow authed
http_access deny all
forwarded_for delete
%[4]s
`, s.Addr, dir, scheme, cfg.Extra), 0o644))
	if os.Getuid() == 0 {
		u, err := user.Lookup("proxy")
		must(err)
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		must(filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(p, uid, gid)
		}))
	}
	s.env = append(os.Environ(), "KRB5_KTNAME=FILE:"+dir+"/http.keytab", "KRB5_CONFIG="+dir+"/krb5.conf")
	args := []string{bin, "-N", "-n", "kerbpass" + strconv.Itoa(s.Port), "-f", dir + "/squid.conf"}
	if cfg.Faketime != "" {
		args = append([]string{testenv.Tool(t, "faketime"), "-f", cfg.Faketime}, args...)
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts Squid again after Stop.
func (s *Squid) Start() {
	s.t.Helper()
	cmd := exec.Command(s.cmd.Path, s.cmd.Args[1:]...)
	cmd.Env = s.env
	out, err := os.OpenFile(filepath.Join(s.Dir, "squid.out"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = cmd
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.Addr); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.Dir, "cache.log"))
			s.t.Fatalf("squid does not listen:\n%s", text)
		}
	}
}

// Kill ends Squid as a crash does.
func (s *Squid) Kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// Stop ends Squid and waits until it is gone.
func (s *Squid) Stop() {
	if s.cmd.Process == nil || s.cmd.ProcessState != nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// Entry is one line of Squid's access log.
type Entry struct {
	Client, Status, User, Method, URL string
}

// Log returns the access log. Squid writes a line when a request has ended,
// so a test waits for the line it wants with [Squid.WaitLog].
func (s *Squid) Log() (entries []Entry) {
	text, _ := os.ReadFile(filepath.Join(s.Dir, "access.log"))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 6 {
			entries = append(entries, Entry{f[1], f[2], f[3], f[4], f[5]})
		}
	}
	return entries
}

// WaitLog waits until the log holds an entry that want accepts.
func (s *Squid) WaitLog(want func(Entry) bool) Entry {
	s.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, e := range s.Log() {
			if want(e) {
				return e
			}
		}
	}
	s.t.Fatalf("no such line in Squid's log:\n%v", s.Log())
	return Entry{}
}
