package tickettest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"kerbpass/internal/testenv"
)

// Acceptor returns a func that shows a token to Squid's own Negotiate helper,
// which knows the keys in keytab and remembers tokens it has seen: it accepts
// each one once. The answer is the authenticated principal. The func is safe
// for concurrent use.
func Acceptor(t testing.TB, keytab string) func(token []byte) (principal string, err error) {
	t.Helper()
	helper := testenv.Tool(t, "negotiate_kerberos_auth")
	dir := t.TempDir()
	log, err := os.Create(dir + "/acceptor.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(helper, "-k", keytab, "-s", "GSS_C_NO_NAME")
	cmd.Env = append(cleanEnv(), "KRB5_CONFIG=/dev/null", "KRB5RCACHEDIR="+dir)
	cmd.Stderr = log
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
	t.Cleanup(func() {
		in.Close() // the helper ends at end of file
		cmd.Wait()
	})

	var mu sync.Mutex
	lines := bufio.NewReader(out)
	return func(token []byte) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Fprintf(in, "YR %s\n", base64.StdEncoding.EncodeToString(token)); err != nil {
			return "", err
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		verdict, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if verdict != "OK" {
			return "", fmt.Errorf("not accepted: %s %s", verdict, rest)
		}
		_, user, _ := strings.Cut(rest, "user=")
		user, _, _ = strings.Cut(user, " ")
		return user, nil
	}
}
