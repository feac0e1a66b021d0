package tickettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// A daemon is a running server of a realm. A nil one has been stopped.
type daemon struct{ cmd *exec.Cmd }

// startDaemon starts program and returns once it says that it is ready, which
// it does after it has opened its ports.
func (k *KDC) startDaemon(t testing.TB, program string, args ...string) (*daemon, error) {
	t.Helper()
	path := filepath.Join(k.Dir, program+".out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d := &daemon{exec.Command(testenv.Tool(t, program), append([]string{"-r", k.Realm}, args...)...)}
	d.cmd.Env = k.serverEnv()
	d.cmd.Stdout, d.cmd.Stderr = out, out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := ""
	ready := func() bool { return strings.Contains(said, "starting") } // an open port alone could be somebody else's
	waitFor(10*time.Second, func() bool {
		b, _ := os.ReadFile(path)
		said = string(b)
		return ready() || strings.Contains(said, "rror") || strings.Contains(said, "annot")
	})
	if ready() {
		return d, nil
	}
	d.stop()
	return nil, fmt.Errorf("%s did not start: %s", program, said)
}

func (d *daemon) stop() {
	if d == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.resume() // one that is paused would not hear
	late := time.AfterFunc(5*time.Second, func() { d.cmd.Process.Kill() })
	d.cmd.Wait()
	late.Stop()
}
