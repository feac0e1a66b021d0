//go:build linux

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// These tests run the proxy in a process of its own, the test program once
// more, because they are about what the whole process holds.
const childEnv = "KERBPASS_TEST_PROXY"

func TestMain(m *testing.M) {
	if v := os.Getenv(childEnv); v != "" {
		if err := proxyProcess(v); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// proxyProcess serves with a limit of files and of connections (0: the
// default), and answers questions about itself until its input ends.
func proxyProcess(v string) error {
	var limit uint64
	var maxConns int
	if _, err := fmt.Sscan(v, &limit, &maxConns); err != nil {
		return err
	}
	if limit > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s, err := proxy.New(proxy.Config{
		Router: pt.Direct(), MaxConns: maxConns, IdleTimeout: time.Hour,
		Peer: proxy.PeerFunc(func(_, _ netip.AddrPort) error { return nil }),
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), l) }()
	self, err := os.Open("/proc/self") // a file for the time when there is none
	if err != nil {
		return err
	}
	spare, err := syscall.Dup(int(self.Fd()))
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for questions := bufio.NewScanner(os.Stdin); questions.Scan(); {
		select {
		case err := <-ended:
			return fmt.Errorf("Serve ended: %w", err)
		default:
		}
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		syscall.Close(spare)
		files, err1 := os.ReadDir("/proc/self/fd")
		copied, err2 := os.ReadFile("/proc/self/io")
		if spare, err = syscall.Dup(int(self.Fd())); err != nil || err1 != nil || err2 != nil {
			return fmt.Errorf("%v, %v, %v", err, err1, err2)
		}
		var read, written uint64
		fmt.Sscanf(string(copied), "rchar: %d\nwchar: %d", &read, &written)
		fmt.Println(m.HeapInuse+m.StackInuse+m.MSpanInuse+m.OtherSys, len(files), s.Open(), read+written)
	}
	return nil
}

// process is a proxy in a process of its own.
type process struct {
	t    *testing.T
	addr string
	in   io.Writer
	out  *bufio.Reader
}

// usage is what a process says about itself.
type usage struct {
	memory int64 // in use after a collection
	files  int
	open   int   // clients' connections
	copied int64 // bytes that went through its own memory
}

func startProcess(t *testing.T, files uint64, maxConns int) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", childEnv, files, maxConns))
	cmd.Stderr = os.Stderr
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
	p := &process{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		kill := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the proxy's process: %v", err)
		}
	})
	p.addr = p.line()
	return p
}

func (p *process) line() string {
	p.t.Helper()
	text, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the proxy's process says %q: %v", text, err)
	}
	return strings.TrimSpace(text)
}

func (p *process) usage() (u usage) {
	p.t.Helper()
	io.WriteString(p.in, "usage\n")
	text := p.line()
	if _, err := fmt.Sscan(text, &u.memory, &u.files, &u.open, &u.copied); err != nil {
		p.t.Fatalf("%q: %v", text, err)
	}
	return u
}

// until asks until ok, or fails.
func (p *process) until(what string, ok func(usage) bool) (u usage) {
	p.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if u = p.usage(); ok(u) {
			return u
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not within a minute: %+v", what, u)
		}
	}
}

// open asks for a tunnel and returns what the proxy answered.
func (p *process) open(target string) (c *net.TCPConn, status int, reason string, err error) {
	nc, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, 0, "", err
	}
	c = nc.(*net.TCPConn)
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), &http.Request{Method: "CONNECT"})
	if err != nil {
		c.Close()
		return nil, 0, "", err
	}
	if resp.StatusCode != 200 {
		c.Close()
		return nil, resp.StatusCode, resp.Header.Get("Proxy-Status"), nil
	}
	return c, 200, "", nil
}

// hold opens n tunnels and sends a word through each.
func (p *process) hold(target string, n int) (held []*net.TCPConn) {
	p.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < n; i += 16 {
				c, status, reason, err := p.open(target)
				if err == nil && status == 200 {
					err = echo(c)
				}
				if err != nil || status != 200 {
					p.t.Errorf("a tunnel: %d %s %v", status, reason, err)
					return
				}
				mu.Lock()
				held = append(held, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
	return held
}

func echo(c net.Conn) error {
	c.SetDeadline(time.Now().Add(60 * time.Second))
	io.WriteString(c, "ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
		return fmt.Errorf("the echo is %q: %w", got, err)
	}
	return nil
}

// echoes is an origin that holds as little as it can per connection, and
// answers GET itself.
func echoes(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 256)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasPrefix(buf[:n], []byte("GET ")) {
						io.WriteString(c, pt.OK)
						continue
					}
					c.Write(buf[:n])
				}
			}()
		}
	}()
	return l.Addr().String()
}

// An idle tunnel costs two files and a few kilobytes, also when it has carried
// something before, and many of them stand in nobody's way.
func TestIdleTunnelsHoldLittle(t *testing.T) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	n := int(min(lim.Cur, 20_200)-200) / 2
	target := echoes(t)
	p := startProcess(t, 0, n+50)
	for _, c := range p.hold(target, 20) {
		c.Close()
	}
	before := p.until("nothing open", func(u usage) bool { return u.open == 0 })
	held := p.hold(target, n)
	u := p.until("two files for each tunnel", func(u usage) bool { return u.files <= before.files+2*n })
	most := int64(11 << 10)
	if raceDetector() {
		most += most / 2 // for what it keeps beside each object
	}
	if each := (u.memory - before.memory) / int64(n); each > most {
		t.Errorf("an idle tunnel takes %d bytes", each)
	} else {
		t.Logf("%d tunnels, %d bytes each, %.2f files", n, each, float64(u.files-before.files)/float64(n))
	}
	pt.Dial(t, p.addr).Get("http://" + target + "/")
	for i := 0; i < n; i += n / 40 {
		if err := echo(held[i]); err != nil {
			t.Errorf("tunnel %d: %v", i, err)
		}
	}
	for _, c := range held {
		c.Close()
	}
	p.until("all gone", func(u usage) bool { return u.open <= 1 && u.files <= before.files+2 })
}

// Out of files by its own count: (limit - 100) / 2 tunnels are held, more are
// told why not, and room that comes back is used.
func TestFileLimitIsRespected(t *testing.T) {
	const limit, want = 300, (300 - 100) / 2
	target := echoes(t)
	p := startProcess(t, limit, 0)
	held := p.hold(target, want)
	for range 40 {
		c, status, reason, err := p.open(target)
		if status != 503 || !strings.Contains(reason, "connection_limit_reached") || err != nil {
			t.Errorf("one too many: %d %q %v", status, reason, err)
		}
		if c != nil {
			c.Close()
		}
	}
	for _, c := range held {
		if err := echo(c); err != nil {
			t.Errorf("a held tunnel: %v", err)
		}
	}
	for _, c := range held[:want/2] {
		c.Close()
	}
	p.until("half of them gone", func(u usage) bool { return u.open <= want-want/2 })
	p.hold(target, want/2)
}

// Out of files in earnest, before any count says so: everybody gets an answer,
// nothing that is held suffers, and it recovers.
func TestNoFileIsLeft(t *testing.T) {
	// With one limit the last file is missing for the client's connection, with
	// the other for the one to its target.
	t.Run("even", func(t *testing.T) { noFileIsLeft(t, 90) })
	t.Run("odd", func(t *testing.T) { noFileIsLeft(t, 91) })
}

func noFileIsLeft(t *testing.T, limit uint64) {
	target := echoes(t)
	p := startProcess(t, limit, 1000)
	var held []*net.TCPConn
	refused := 0
	for range 90 {
		c, status, reason, err := p.open(target)
		switch {
		case err != nil:
			t.Fatalf("after %d tunnels: no answer: %v", len(held), err)
		case status == 200:
			held = append(held, c)
		case status == 503 && strings.Contains(reason, "connection_limit_reached"):
			refused++
		default:
			t.Fatalf("after %d tunnels: %d %q", len(held), status, reason)
		}
	}
	if len(held) < 30 || refused < 40 {
		t.Errorf("%d tunnels were opened, %d refused", len(held), refused)
	}
	for _, c := range held {
		if err := echo(c); err != nil {
			t.Errorf("a held tunnel: %v", err)
		}
	}
	for _, c := range held {
		c.Close()
	}
	p.until("all gone", func(u usage) bool { return u.open == 0 })
	p.hold(target, 30)
}

// Tunnels, large answers and large uploads go through the kernel, not through
// the process's memory.
func TestBytesStayInTheKernel(t *testing.T) {
	const size = 32 << 20
	origin := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		switch h.Method() {
		case "GET":
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			io.CopyN(c.Conn, zeros{}, size)
		case "PUT":
			io.CopyN(io.Discard, c.R, size)
			c.Send(pt.OK)
		case "BOTH": // inside a tunnel
			c.Send("go\r\n")
			done := make(chan struct{})
			go func() { defer close(done); io.CopyN(io.Discard, c.R, size) }()
			io.CopyN(c.Conn, zeros{}, size)
			<-done
		}
	})
	p := startProcess(t, 0, 0)
	for name, carry := range map[string]func(t *testing.T) error{
		"tunnel": func(t *testing.T) error {
			c, status, _, err := p.open(origin.Addr)
			if err != nil || status != 200 {
				return fmt.Errorf("%d: %w", status, err)
			}
			defer c.Close()
			io.WriteString(c, "BOTH / HTTP/1.1\r\nHost: x\r\n\r\n")
			sent := make(chan error, 1)
			go func() { _, err := io.CopyN(c, zeros{}, size); sent <- err }()
			if _, err := io.CopyN(io.Discard, c, size+4); err != nil {
				return err
			}
			return <-sent
		},
		"answer": func(t *testing.T) error {
			c := pt.Dial(t, p.addr)
			fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.Addr)
			resp, err := http.ReadResponse(c.R, nil)
			if err == nil {
				_, err = io.CopyN(io.Discard, resp.Body, size)
			}
			return err
		},
		"upload": func(t *testing.T) error {
			c := pt.Dial(t, p.addr)
			fmt.Fprintf(c, "PUT http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", origin.Addr, size)
			sent := make(chan error, 1)
			go func() { _, err := io.CopyN(c, zeros{}, size); sent <- err }()
			if resp, _ := c.Response("PUT"); resp.StatusCode != 200 {
				return fmt.Errorf("got %d", resp.StatusCode)
			}
			return <-sent
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.usage()
			if err := carry(t); err != nil {
				t.Error(err)
			}
			if copied := p.usage().copied - before.copied; copied > 2<<20 {
				t.Errorf("%d bytes of %d were copied", copied, size)
			}
		})
	}
}
