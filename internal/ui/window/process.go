package window

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// endLimit is how long a child may take to go by itself.
const endLimit = time.Second

// A child is one child process.
type child struct {
	way   string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	gone  chan struct{} // closed when the process is gone
	err   error         // how it ended, once gone is closed
}

// start starts the child and tells it what to show. Its standard input stays
// open for as long as the window shall.
func start(cfg Config, way, url string) (*child, error) {
	cmd := exec.Command(cfg.Command[0], append(slices.Clone(cfg.Command[1:]), way)...)
	cmd.Env = cfg.Env
	if way != wayBrowser { // which is the person's and needs the proxy
		cmd.Env = cleanEnv(cfg.Env)
	}
	tie(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{way: way, cmd: cmd, stdin: stdin, gone: make(chan struct{})}
	go func() {
		defer close(c.gone)
		c.err = cmd.Wait()
	}()
	// A child that has ended already cannot take it, and says why by its exit code.
	_, _ = fmt.Fprintf(stdin, "%s\n%s\n", url, base64.StdEncoding.EncodeToString(cfg.Icon))
	return c, nil
}

// ended is closed when the child is gone, and nil for no child.
func (c *child) ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.gone
}

// raise asks the child to bring its window to the front and reports whether
// that is being done. A browser cannot be asked.
func (c *child) raise() bool {
	if c == nil || c.way == wayBrowserApp || c.way == wayBrowser {
		return false
	}
	select {
	case <-c.gone:
		return false
	default:
	}
	_, err := io.WriteString(c.stdin, raiseLine+"\n")
	return err == nil
}

// end closes the window and returns when the child is gone, which it kills if
// it does not go by itself.
func (c *child) end() {
	c.stdin.Close()
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-c.gone:
	case <-limit.C:
		c.cmd.Process.Kill()
		<-c.gone
	}
}

// reason is why the child ended.
func (c *child) reason() error {
	if c.err == nil {
		return errClosedEarly
	}
	var exit *exec.ExitError
	if errors.As(c.err, &exit) && exitReason(exit.ExitCode()) != nil {
		return exitReason(exit.ExitCode())
	}
	return c.err
}

// cleanEnv returns env as a window of our own needs it: engines must not look
// for the loopback page at a proxy, and must draw without a graphics card.
func cleanEnv(env []string) []string {
	set := []string{
		"GIO_USE_PROXY_RESOLVER=dummy", // WebKitGTK asks a proxy even for loopback
		"WEBKIT_DISABLE_COMPOSITING_MODE=1",
		"WEBKIT_DISABLE_DMABUF_RENDERER=1",
		"GSK_RENDERER=cairo",
	}
	clean := slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasSuffix(strings.ToLower(name), "_proxy") ||
			slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	})
	return append(clean, set...)
}
