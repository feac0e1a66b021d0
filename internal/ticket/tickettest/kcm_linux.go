//go:build linux

package tickettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// StartKCM starts sssd's KCM daemon and returns the path of its socket, which
// clients name as kcm_socket in [libdefaults]. It needs root: the daemon has
// its folders built in, so it runs in a mount namespace of its own where they
// are empty, and the machine's sssd is not touched.
func StartKCM(t testing.TB) (socket string) {
	t.Helper()
	testenv.Root(t)
	sssd, kcm := testenv.Tool(t, "sssd"), testenv.Tool(t, "sssd_kcm")
	// A short path: a socket's may have 107 characters at most.
	dir, err := os.MkdirTemp("", "kcm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "socket")
	pidFile := filepath.Join(dir, "pid")

	// The daemon asks to die with its parent, so the shell stays.
	script := fmt.Sprintf(`set -e
mount --make-rprivate /
for d in /etc/sssd /var/lib/sss /var/log/sssd; do
	mkdir -p $d
	mount -t tmpfs tmpfs $d
done
mkdir -p /run/sssd /etc/sssd/conf.d /var/lib/sss/db /var/lib/sss/secrets /var/lib/sss/pipes/private /var/lib/sss/mc /var/lib/sss/pubconf
chmod 700 /var/lib/sss/db /var/lib/sss/secrets
cat >/etc/sssd/sssd.conf <<X
[sssd]
services =
domains =
[kcm]
socket_path = %[1]s
responder_idle_timeout = 0
X
chmod 600 /etc/sssd/sssd.conf
chmod 711 /etc/sssd
%[2]s --genconf-section=kcm || true
%[3]s --uid 0 --gid 0 --logger=stderr &
echo $! >%[4]s.new
mv %[4]s.new %[4]s
wait
`, socket, sssd, kcm, pidFile)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		testenv.Missing(t, "mount namespaces: %v", err)
	}
	t.Cleanup(func() {
		if text, err := os.ReadFile(pidFile); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				syscall.Kill(pid, syscall.SIGTERM)
			}
		}
		end := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		end.Stop()
	})
	ready := waitFor(10*time.Second, func() bool {
		st, err := os.Stat(socket)
		return err == nil && st.Mode()&os.ModeSocket != 0
	})
	if !ready {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("sssd_kcm did not open its socket:\n%s", text)
	}
	return socket
}
