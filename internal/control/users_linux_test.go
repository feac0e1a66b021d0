//go:build linux

package control_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kerbpass/internal/control"
	"kerbpass/internal/testenv"
)

// sameUser is the check the helper uses, in short.
func sameUser(c net.Conn) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d", cred.Uid)
	}
	return nil
}

// as is the test binary run by another user: below a private folder it is out
// of that user's reach, but not through the link of the running one.
func as(uid uint32) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// The modes are opened wide, so that only the check is in the stranger's way.
func TestOtherUserRefused(t *testing.T) {
	testenv.Root(t)
	testenv.NoLeaks(t)
	path := channelPath(t)
	answer := func(w http.ResponseWriter, _ *http.Request) { control.WriteJSON(w, "secret") }
	widen := func() {
		must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
		must(t, os.Chmod(filepath.Dir(path), 0o755))
		must(t, os.Chmod(path, 0o666))
	}

	stop := serve(t, path, anyone, answer)
	widen()
	if got, _ := start(t, as(65534), "get", path).out.ReadString('\n'); !strings.Contains(got, "200 OK") {
		t.Fatalf("the modes still keep the stranger out: %q", got)
	}
	must(t, stop())

	serve(t, path, sameUser, answer)
	widen()
	start(t, as(65534), "get", path).expect(t, `read ""`)
	var got string
	if err := control.NewClient(path, sameUser).Get(t.Context(), "/", nil, &got); err != nil || got != "secret" {
		t.Errorf("own user: got %q, %v", got, err)
	}
}

// A stranger poses as the helper: the client says nothing to it.
func TestOtherUsersServerRefused(t *testing.T) {
	testenv.Root(t)
	testenv.NoLeaks(t)
	dir := shortDir(t)
	must(t, os.Chmod(dir, 0o777))
	path := filepath.Join(dir, "control.sock")
	poser := start(t, as(65534), "pose", path)
	poser.expect(t, "listens: <nil>")
	err := control.NewClient(path, sameUser).Post(t.Context(), "/v1/login", map[string]string{"password": "hunter2"}, nil)
	if err == nil || !strings.Contains(err.Error(), "someone else: user 65534") {
		t.Errorf("got %v, want a refusal", err)
	}
	poser.expect(t, `read "" <nil>`)
}
