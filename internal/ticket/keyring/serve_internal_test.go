package keyring

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	gokeyring "github.com/zalando/go-keyring"

	"kerbpass/internal/testenv"
)

// question asks the child's side in this process, over the go-keyring mock.
func question(t *testing.T, m message) message {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	served := make(chan error, 1)
	go func() {
		err := serve(inR, outW)
		outW.CloseWithError(err)
		served <- err
	}()
	if err := m.write(inW); err != nil {
		t.Fatal(err)
	}
	answer, err := readMessage(outR)
	inW.Close()
	if e := <-served; e != nil || err != nil {
		t.Fatalf("serve: %v, answer: %v", e, err)
	}
	return answer
}

func set(t *testing.T, principal, password string) error {
	t.Helper()
	return question(t, message{kind: opSet, text: principal, secret: []byte(password)}).err()
}

func recall(t *testing.T, principal string) (string, error) {
	t.Helper()
	answer := question(t, message{kind: opGet, text: principal})
	return string(answer.secret), answer.err()
}

func whose(t *testing.T) string {
	t.Helper()
	answer := question(t, message{kind: opPrincipal})
	if err := answer.err(); err != nil {
		t.Fatal(err)
	}
	return answer.text
}

func TestServeRemembersOne(t *testing.T) {
	testenv.NoLeaks(t)
	gokeyring.MockInit()
	const alice, bob = "alice@CORP.EXAMPLE", "bob/ädmin@CORP.EXAMPLE"
	if who := whose(t); who != "" {
		t.Errorf("empty keyring: whose is %q", who)
	}
	if _, err := recall(t, alice); !errors.Is(err, ErrNotFound) {
		t.Errorf("empty keyring: %v, want ErrNotFound", err)
	}
	for _, password := range []string{"first", "NUL \x00, line\nend, \xff, ü 🔑", strings.Repeat("x", MaxSecret)} {
		if err := set(t, alice, password); err != nil {
			t.Fatal(err)
		}
		if got, err := recall(t, alice); got != password || err != nil {
			t.Errorf("got %d bytes, %v, want the %d that were set", len(got), err, len(password))
		}
	}
	if err := set(t, bob, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := recall(t, alice); !errors.Is(err, ErrNotFound) {
		t.Errorf("alice's password after bob's was set: %v, want ErrNotFound", err)
	}
	if err := question(t, message{kind: opDelete, text: alice}).err(); err != nil || whose(t) != bob {
		t.Errorf("forgetting alice: %v, remembered is %q, want bob", err, whose(t))
	}
	if err := question(t, message{kind: opDelete, text: bob}).err(); err != nil || whose(t) != "" {
		t.Errorf("forgetting bob: %v, remembered is %q, want nobody", err, whose(t))
	}
	if _, err := recall(t, bob); !errors.Is(err, ErrNotFound) {
		t.Errorf("bob's password: %v, want ErrNotFound", err)
	}
}

func TestServeTellsFailuresApart(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name   string
		reason error
		want   error
		text   string
	}{
		{"too large", gokeyring.ErrSetDataTooBig, ErrTooLarge, "too long"},
		{"not unlocked", errors.New("failed to unlock correct collection '/x'"), ErrLocked, "not unlocked"},
		{"no such system", gokeyring.ErrUnsupportedPlatform, ErrUnavailable, "unsupported"},
		{"no dbus-launch", &exec.Error{Name: "dbus-launch", Err: exec.ErrNotFound}, ErrUnavailable, "dbus-launch"},
		{"endless and not UTF-8", errors.New(strings.Repeat("\xffx", 100_000)), ErrUnavailable, "xxx"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gokeyring.MockInitWithError(tt.reason)
			if err := set(t, "a", "b"); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("set: %.80v, want %v with %q", err, tt.want, tt.text)
			}
			if _, err := recall(t, "a"); !errors.Is(err, tt.want) {
				t.Errorf("get: %.80v, want %v", err, tt.want)
			}
		})
	}
}

func TestServeForgetsForeignPointer(t *testing.T) {
	gokeyring.MockInit()
	if err := gokeyring.Set(pointerService, pointerAccount, "line\nend"); err != nil {
		t.Fatal(err)
	}
	if who := whose(t); who != "" {
		t.Errorf("remembered is %q, want nobody", who)
	}
	if err := gokeyring.Set(service, "a", strings.Repeat("x", MaxSecret+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := recall(t, "a"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a password of %d bytes: %v, want ErrTooLarge", MaxSecret+1, err)
	}
}

func TestServeRefusesBadQuestions(t *testing.T) {
	gokeyring.MockInit()
	for name, in := range map[string]string{
		"nothing":      "",
		"rubbish":      "GET / HTTP/1.0\r\n\r\n",
		"no principal": string(encode(t, message{kind: opGet})),
		"no password":  string(encode(t, message{kind: opSet, text: "a"})),
	} {
		var out bytes.Buffer
		if err := serve(strings.NewReader(in), &out); err == nil || out.Len() > 0 {
			t.Errorf("%s: got %v and %d bytes of answer, want an error only", name, err, out.Len())
		}
	}
	if err := question(t, message{kind: done, text: "a"}).err(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an answer as a question: %v", err)
	}
}

func TestPerformWipesTheSecret(t *testing.T) {
	gokeyring.MockInit()
	secret := []byte("hunter2")
	if answer := (message{kind: opSet, text: "a", secret: secret}).perform(); answer.kind != done {
		t.Fatal(answer.err())
	}
	if !bytes.Equal(secret, make([]byte, len(secret))) {
		t.Errorf("the secret is still %q", secret)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin", "HOME=/home/a", "DBUS_SESSION_BUS_ADDRESS=unix:path=/x,guid=1", "LD_PRELOAD=x",
		"GODEBUG=x", "HTTP_PROXY=http://u:p@h/", "systemroot=C:\\Windows", "GOTRACEBACK=crash", "HOMEX=1", "SSLKEYLOGFILE=x"})
	want := []string{"HOME=/home/a", "DBUS_SESSION_BUS_ADDRESS=unix:path=/x,guid=1", "systemroot=C:\\Windows"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
	if environment(nil) == nil {
		t.Error("nil would pass the whole environment on")
	}
}
