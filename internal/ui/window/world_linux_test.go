//go:build linux

package window_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/window"
)

// patience bounds every wait for something that must happen.
const patience = 60 * time.Second

// The test program is its own child: "child BEHAVIOURS WAY" behaves as
// BEHAVIOURS ("way=behaviour,…", "" the rest) says, "fetch URL" is a browser
// that paints, "parent BEHAVIOURS URL" keeps a window open until it is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "child":
			os.Exit(childMain(os.Args[2], os.Args[3]))
		case "fetch":
			fetch(os.Args[2] + "&painted")
			os.Exit(0)
		case "parent":
			os.Exit(parentMain(os.Args[2], os.Args[3]))
		}
	}
	os.Exit(m.Run())
}

func childMain(behaviours, way string) int {
	behaviour := "nolibrary"
	for entry := range strings.SplitSeq(behaviours, ",") {
		if name, b, _ := strings.Cut(entry, "="); name == way {
			behaviour = b
		}
	}
	switch behaviour {
	case "real":
		return window.ExitCode(window.Child(os.Stdin, way))
	case "hang":
		select {} // deaf, also to the end of its standard input
	case "blank":
		io.Copy(io.Discard, os.Stdin)
		return 0
	case "dies":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "exits":
		return 0
	case "paints":
		return paints()
	case "paints and hangs":
		in := bufio.NewReader(os.Stdin)
		url, _ := in.ReadString('\n')
		fetch(strings.TrimSpace(url) + "&painted")
		select {}
	}
	return 20 // library missing
}

func paints() int {
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	url := in.Text()
	fetch(url + "&painted")
	in.Scan() // the icon
	for in.Scan() {
		fetch(url + "&line=" + in.Text())
	}
	return 0
}

func fetch(url string) {
	if res, err := http.Get(url); err == nil {
		res.Body.Close()
	}
}

func parentMain(behaviours, url string) int {
	self, _ := os.Executable()
	w, err := window.New(window.Config{
		Command:  []string{self, "child", behaviours},
		Page:     func(context.Context) (string, error) { return url, nil },
		Env:      os.Environ(),
		Patience: patience,
	})
	if err != nil {
		return 1
	}
	go func() {
		io.Copy(io.Discard, os.Stdin) // the test says when it is painted
		w.Painted()
	}()
	go w.Run(context.Background())
	if err := w.Open(context.Background()); err != nil {
		return 1
	}
	fmt.Println("open")
	select {}
}

// A world is a window, the page it shows and what happened to both.
type world struct {
	*window.Window
	server *httptest.Server
	stop   func() // ends Run and waits for it
	logs   *lockedBuffer

	// mu guards what follows.
	mu         sync.Mutex
	pages      int      // made by Page
	painted    int      // call-backs
	lines      []string // that a fake child got
	remembered []string
	outside    int    // requests for what a page must not lead to
	content    string // of the page; "" the usual
}

// newWorld runs a window; change adjusts its configuration.
func newWorld(t *testing.T, behaviours string, change func(*window.Config)) *world {
	t.Helper()
	w := &world{logs: &lockedBuffer{}}
	w.server = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.server.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	icon, err := os.ReadFile(filepath.Join("..", "..", "..", "assets", "icons", "app-48.png"))
	if err != nil {
		t.Fatal(err)
	}
	c := window.Config{
		Command: []string{self, "child", behaviours},
		Page: func(context.Context) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.pages++
			return fmt.Sprintf("%s/page?token=%d", w.server.URL, w.pages), nil
		},
		Icon:     icon,
		Remember: func(way string) { w.mu.Lock(); defer w.mu.Unlock(); w.remembered = append(w.remembered, way) },
		Env:      []string{"DISPLAY=:fake", "PATH="},
		Patience: patience,
		Log:      slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&c)
	}
	if w.Window, err = window.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(w.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", w.logs)
		}
	})
	return w
}

// pageText paints itself in one colour and says so after two frames.
const pageText = `<!doctype html><title>page</title><body style="background:%s">
<script>requestAnimationFrame(() => requestAnimationFrame(() => fetch("%s&painted")))</script>`

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case q.Has("painted"):
		w.painted++
		w.Painted()
	case q.Has("line"):
		w.lines = append(w.lines, q.Get("line"))
	case r.URL.Path == "/page":
		rw.Header().Set("Content-Type", "text/html")
		if w.content != "" {
			io.WriteString(rw, w.content)
			return
		}
		fmt.Fprintf(rw, pageText, pageColour, r.URL.RequestURI())
	case r.URL.Path == "/outside":
		w.outside++
	}
}

func (w *world) open(t *testing.T) {
	t.Helper()
	if err := w.tryOpen(t); err != nil {
		t.Fatalf("open: %v", err)
	}
}

func (w *world) tryOpen(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	return w.Open(ctx)
}

func (w *world) get(read func() string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return read()
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// waitFor asks until it is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// descendants are the processes below pid, by the program's short name.
func descendants(pid int) map[int]string {
	parents, names := map[int]int{}, map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // gone meanwhile
		}
		head, tail, _ := strings.Cut(string(text), " (")
		comm, rest, _ := strings.Cut(tail, ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		id, _ := strconv.Atoi(head)
		parents[id], _ = strconv.Atoi(fields[1])
		names[id] = comm
	}
	below := map[int]string{}
	for id := range parents {
		for up := id; up > 1; up = parents[up] {
			if parents[up] == pid {
				below[id] = names[id]
				break
			}
		}
	}
	return below
}

// started are the descendants of this process that before does not know.
func started(before map[int]string) map[int]string {
	now := descendants(os.Getpid())
	for id := range before {
		delete(now, id)
	}
	return now
}

func waitGone(t *testing.T, processes map[int]string) {
	t.Helper()
	if len(processes) == 0 {
		t.Fatal("there was no process to end")
	}
	began := time.Now()
	left := func() (names []string) {
		for id, name := range processes {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
			if err == nil && !strings.Contains(string(text), ") Z ") {
				names = append(names, name)
			}
		}
		return names
	}
	for deadline := began.Add(patience); len(left()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still running: %q of %v", left(), processes)
		}
	}
	t.Logf("%d processes gone after %v", len(processes), time.Since(began).Round(time.Millisecond))
}

// startX starts a display of the test's own.
func startX(t *testing.T) (display string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(testenv.Tool(t, "Xvfb"), "-displayfd", "3", "-screen", "0", "900x700x24", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb: %v", err)
	}
	return ":" + strings.TrimSpace(number)
}

// desktopEnv is the environment of a person's session on display, who has a
// proxy that is dead.
func desktopEnv(t *testing.T, display string) []string {
	t.Helper()
	home := t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "DISPLAY=" + display, "XDG_RUNTIME_DIR=" + home,
		"DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "LANG=C.UTF-8", "NO_AT_BRIDGE=1"}
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"} {
		env = append(env, name+"=http://127.0.0.1:9")
	}
	return env
}

const pageColour = "#2266cc"

// screenshot shows what is on display. With KERBPASS_SCREENSHOTS it is kept in
// that folder, to be looked at.
func screenshot(t *testing.T, display, name string) image.Image {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "import"), "-window", "root", "png:-")
	cmd.Env = append(os.Environ(), "DISPLAY="+display)
	data, err := cmd.Output()
	if err != nil {
		t.Fatalf("import: %v", err)
	}
	if dir := os.Getenv("KERBPASS_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o600); err != nil {
			t.Error(err)
		}
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return picture
}

// coloured is the share of the picture that has the page's colour.
func coloured(picture image.Image) float64 {
	b, n := picture.Bounds(), 0
	want := color.NRGBA{0x22, 0x66, 0xcc, 0xff}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if color.NRGBAModel.Convert(picture.At(x, y)) == want {
				n++
			}
		}
	}
	return float64(n) / float64(b.Dx()*b.Dy())
}

// xdotool runs a command of that program.
func xdotool(t *testing.T, display string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "xdotool"), args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+display)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}
