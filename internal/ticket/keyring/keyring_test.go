package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/keyring"
)

const (
	alice    = "alice@CORP.EXAMPLE"
	bob      = "bob/ädmin@CORP.EXAMPLE"
	password = "Pw-of-the-keyring-test"
	patience = 30 * time.Second // on a loaded machine
)

// TestMain makes this program its own child where its first argument says so.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if act, ok := roles[os.Args[1]]; ok {
			os.Exit(act(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// roles are what a child of these tests can be.
var roles = map[string]func(args []string) int{
	"serve": func([]string) int {
		if keyring.Serve(os.Stdin, os.Stdout) != nil {
			return 1
		}
		return 0
	},
	// hang calls the test at an address once it was asked, and answers nothing.
	"hang": func(args []string) int {
		io.ReadFull(os.Stdin, make([]byte, 7))
		return call(args[0])
	},
	// call is for programs that nobody asks on standard input.
	"call": func(args []string) int { return call(args[0]) },
	// family leaves it to a program of its own to hang.
	"family": func(args []string) int {
		cmd := exec.Command(os.Args[0], "hang", args[0])
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		cmd.Run()
		return 0
	},
	"answer": func(args []string) int { return answer(args[0], 0) },
	"crash":  func(args []string) int { return answer(args[0], 3) },
	"mute":   func([]string) int { return 0 },
	"flood": func([]string) int {
		for chunk := bytes.Repeat([]byte("\x05\xff"), 1<<15); ; {
			if _, err := os.Stdout.Write(chunk); err != nil {
				return 1
			}
		}
	},
	// ask does to the keyring what somebody may kill it for.
	"ask": func([]string) int {
		s, err := keyring.New(keyring.Config{Command: []string{os.Args[0], "serve"}, Limit: time.Hour})
		if err == nil {
			_, err = s.Get(context.Background(), alice)
		}
		os.Stdout.WriteString(err.Error())
		return 1
	},
}

// call tells the test that it is there, and lives as long as the test does.
func call(addr string) int {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 1
	}
	io.Copy(io.Discard, conn)
	return 0
}

// answer reads the question and says what is quoted in text: a NUL cannot be
// in an argument.
func answer(text string, code int) int {
	io.ReadFull(os.Stdin, make([]byte, 7))
	raw, err := strconv.Unquote(text)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(raw)
	return code
}

// self is a store whose child is this program in a role.
func self(t *testing.T, limit time.Duration, role ...string) *keyring.Store {
	t.Helper()
	s, err := keyring.New(keyring.Config{Command: append([]string{os.Args[0]}, role...), Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// switchboard is where children call; arrived waits for the next one.
type switchboard struct {
	t *testing.T
	l *net.TCPListener
}

func newSwitchboard(t *testing.T) *switchboard {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &switchboard{t, l.(*net.TCPListener)}
}

func (b *switchboard) addr() string { return b.l.Addr().String() }

func (b *switchboard) arrived() net.Conn {
	b.t.Helper()
	b.l.SetDeadline(time.Now().Add(patience))
	conn, err := b.l.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

// mustEnd waits until the process at the other end of conn is gone.
func mustEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the child is still there")
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]keyring.Config{
		"no command":     {},
		"negative limit": {Command: []string{"x"}, Limit: -1},
	} {
		if _, err := keyring.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWhatIsNotRemembered(t *testing.T) {
	s := self(t, 0, "mute")
	for _, tt := range []struct {
		name, principal, password, want string
	}{
		{"no principal", "", "x", "no principal"},
		{"long principal", strings.Repeat("a", keyring.MaxPrincipal+1), "x", "at most 512"},
		{"NUL in the principal", "a\x00b", "x", "cannot keep"},
		{"second line", "a\nb", "x", "cannot keep"},
		{"not UTF-8", "a\xff", "x", "cannot keep"},
		{"no password", alice, "", "empty"},
		{"long password", alice, strings.Repeat("x", keyring.MaxSecret+1), "at most 65536"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Set(t.Context(), tt.principal, ticket.NewSecret([]byte(tt.password)))
			var op *ticket.OpError
			if !errors.As(err, &op) || op.Op != "remember password" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an OpError with %q", err, tt.want)
			}
		})
	}
}

func TestChildrenThatFail(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name string
		role []string
		want string
	}{
		{"no such program", nil, "keyring child: "},
		{"ends without a word", []string{"mute"}, "keyring child: "}, // may be gone before it is asked
		{"crashes", []string{"crash", `""`}, "without an answer"},
		{"crashes while it answers", []string{"crash", `"\x05\x00\x00\x00\x00\x00\x09abc"`}, "in the middle"},
		{"prints words", []string{"answer", `"panic: no bus\n"`}, "malformed"},
		{"asks back", []string{"answer", `"\x01\x00\x00\x00\x00\x00\x00"`}, "no answer"},
		{"floods", []string{"flood"}, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := self(t, 0, tt.role...)
			if tt.role == nil {
				s, _ = keyring.New(keyring.Config{Command: []string{"/nonexistent/kerbpass"}})
			}
			secret := ticket.NewSecret([]byte(strings.Repeat(password, 100)))
			for name, err := range map[string]error{
				"get":    second(s.Get(t.Context(), alice)),
				"set":    s.Set(t.Context(), alice, secret),
				"delete": s.Delete(t.Context(), alice),
				"whose":  second(s.Principal(t.Context())),
			} {
				if err == nil || !strings.Contains(err.Error(), tt.want) && !strings.Contains(err.Error(), "takes no question") {
					t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
				}
				if err != nil && testenv.Secret(err.Error(), password) != "" {
					t.Errorf("%s: the error holds the password", name)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestHangingChildEndsAtTheLimit(t *testing.T) {
	testenv.NoLeaks(t)
	board := newSwitchboard(t)
	result := make(chan error, 1)
	s := self(t, 8*time.Second, "hang", board.addr())
	go func() { result <- second(s.Get(context.Background(), alice)) }()
	conn := board.arrived()
	err := <-result
	if !errors.Is(err, keyring.ErrLocked) || !strings.Contains(err.Error(), "within 8s") {
		t.Errorf("got %v, want ErrLocked after 8s", err)
	}
	mustEnd(t, conn)
}

func TestCancelEndsTheChild(t *testing.T) {
	testenv.NoLeaks(t)
	for _, role := range hanging {
		t.Run(role, func(t *testing.T) {
			board := newSwitchboard(t)
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			s := self(t, time.Hour, role, board.addr())
			go func() { result <- s.Set(ctx, alice, ticket.NewSecret([]byte(password))) }()
			conn := board.arrived()
			waiting, stop := context.WithCancelCause(t.Context())
			stop(errors.New("gave up waiting"))
			if err := s.Delete(waiting, alice); err == nil || !strings.Contains(err.Error(), "gave up waiting") {
				t.Errorf("a second call at the same time: got %v, want its own cancellation", err)
			}
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
			mustEnd(t, conn)
		})
	}
}

// roundTrip is what must work on every real keyring.
func roundTrip(t *testing.T, s *keyring.Store) {
	t.Helper()
	ctx := t.Context()
	recall := func(principal, want string) {
		t.Helper()
		secret, err := s.Get(ctx, principal)
		if want == "" && !errors.Is(err, keyring.ErrNotFound) {
			t.Errorf("password of %s: got %v, want ErrNotFound", principal, err)
		}
		if want != "" && (err != nil || string(secret.Expose()) != want) {
			t.Errorf("password of %s: got %q, %v, want %q", principal, secret.Expose(), err, want)
		}
	}
	whose := func(want string) {
		t.Helper()
		if who, err := s.Principal(ctx); who != want || err != nil {
			t.Errorf("remembered is %q, %v, want %q", who, err, want)
		}
	}
	remember := func(principal, password string) {
		t.Helper()
		secret := ticket.NewSecret([]byte(password))
		if err := s.Set(ctx, principal, secret); err != nil {
			t.Error(err)
		}
		if string(secret.Expose()) != password {
			t.Error("the caller's password was changed")
		}
	}
	whose("")
	recall(alice, "")
	for _, p := range []string{password, "NUL \x00, line\r\nend, \xff, ü 🔑 'quoted' \"$(x)\" ", strings.Repeat("x", 2560)} {
		remember(alice, p)
		recall(alice, p)
	}
	whose(alice)
	remember(bob, "b")
	recall(bob, "b")
	recall(alice, "")
	whose(bob)
	for range 2 { // the second time there is nothing left
		if err := s.Delete(ctx, bob); err != nil {
			t.Error(err)
		}
		recall(bob, "")
		whose("")
	}
}
