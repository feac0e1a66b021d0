package tickettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

var loginCases = []testCase{
	{name: "sign in, right password", needs: canLogIn, run: testRightPassword},
	{name: "sign in, default principal", needs: canLogIn, run: testDefaultPrincipal},
	{name: "sign in, wrong password", needs: countsAttempts, run: testWrongPassword},
	{name: "sign in, refused prompt", needs: countsAttempts, run: testRefusedPrompt},
	{name: "sign in, unknown principal", needs: func(w World) bool { return canLogIn(w) && w.Nobody != "" }, run: testUnknownPrincipal},
	{name: "sign in, locked", needs: func(w World) bool { return canLogIn(w) && w.Locked != "" }, run: testLocked},
	{name: "sign in, expired password", needs: canChange, run: testExpiredPassword},
	{name: "sign in, new passwords differ", needs: canChange, run: testNewPasswordsDiffer},
	{name: "sign in, new password rejected", needs: canChange, run: testNewPasswordRejected},
	{name: "sign in, KDC down", needs: func(w World) bool { return canLogIn(w) && canGoDown(w) }, run: testLoginKDCDown},
	{name: "sign out", run: testSignOut},
}

func canLogIn(w World) bool { return w.Password != "" }

func countsAttempts(w World) bool { return canLogIn(w) && w.Attempts != nil }

func canChange(w World) bool { return canLogIn(w) && w.Stale != nil && w.Short != "" }

const (
	wrongPassword = "Not-the-horse-9"
	newPassword   = "Another-horse-8"
)

// A script is a person at the prompt: the password, then pairs of new ones.
type script struct {
	password string
	pairs    [][2]string // the answers to one pair of questions each
	refuse   error       // given instead of the password

	mu      sync.Mutex // guards what follows
	calls   int
	banners []string
	asked   []ticket.Prompt
	given   []ticket.Secret
}

func newScript(password string, pairs ...[2]string) *script {
	return &script{password: password, pairs: pairs}
}

var errOutOfAnswers = errors.New("the person at the prompt has no more answers")

// prompt is a [ticket.Prompter].
func (p *script) prompt(_ context.Context, banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	p.banners = append(p.banners, banner)
	p.asked = append(p.asked, questions...)
	if p.refuse != nil {
		return nil, p.refuse
	}
	var answers []ticket.Secret
	for _, q := range questions {
		text, err := p.answer(q.Kind)
		if err != nil {
			return nil, err
		}
		answers = append(answers, ticket.NewSecret([]byte(text)))
	}
	p.given = append(p.given, answers...)
	return answers, nil
}

func (p *script) answer(kind ticket.PromptKind) (string, error) {
	switch {
	case kind == ticket.PromptPassword:
		return p.password, nil
	case len(p.pairs) == 0:
		return "", errOutOfAnswers
	case kind == ticket.PromptNewPassword:
		return p.pairs[0][0], nil
	case kind == ticket.PromptNewAgain:
		again := p.pairs[0][1]
		p.pairs = p.pairs[1:]
		return again, nil
	}
	return "", fmt.Errorf("a question that nobody expects: %q", kind)
}

// logIn has the backend sign principal in and checks that no answer outlives
// the call.
func (s suite) logIn(t *testing.T, principal string, p *script) error {
	t.Helper()
	err := s.b.SignIn(t.Context(), ticket.Login{Principal: principal, Prompt: p.prompt})
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, answer := range p.given {
		if b := answer.Expose(); len(bytes.Trim(b, "\x00")) != 0 {
			t.Errorf("answer %d of %d is not wiped", i+1, len(p.given))
		}
	}
	if err != nil {
		for _, secret := range []string{s.w.Password, wrongPassword, newPassword} {
			if strings.Contains(err.Error(), secret) {
				t.Error("the error holds a password")
			}
		}
	}
	return err
}

// askedOnce checks that there was one question, for the password.
func (p *script) askedOnce(t *testing.T, principal string) {
	t.Helper()
	if p.calls != 1 || len(p.asked) != 1 {
		t.Errorf("asked %d times %+v, want one question", p.calls, p.asked)
		return
	}
	q := p.asked[0]
	if q.Kind != ticket.PromptPassword || !q.Hidden || !strings.Contains(q.Text, principal) || strings.HasSuffix(strings.TrimSpace(q.Text), ":") {
		t.Errorf("asked %+v, want a hidden %q that names %s and ends without a colon", q, ticket.PromptPassword, principal)
	}
}

// signedIn checks that principal is.
func (s suite) signedIn(t *testing.T, principal string) {
	t.Helper()
	eventually(t, func() error {
		st, err := s.b.Status(t.Context())
		if err == nil && (st.Principal != principal || st.Left(time.Now()) == 0) {
			err = fmt.Errorf("status: got %+v, want a ticket of %s", st, principal)
		}
		return err
	})
}

func testRightPassword(t *testing.T, s suite) {
	s.w.SignOut(t)
	s.hasNoTicket(t)
	for _, what := range []string{"without a ticket", "in place of one"} {
		p := newScript(s.w.Password)
		s.changesStamp(t, "signing in", func() {
			if err := s.logIn(t, s.w.Principal, p); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		})
		p.askedOnce(t, s.w.Principal)
		s.signedIn(t, s.w.Principal)
		s.accepted(t)
		s.listed(t)
		if c := s.cache(t); !c.Default || len(c.TGTs) != 1 {
			t.Errorf("%s: got %+v, want the default cache with one TGT", what, c)
		}
	}
}

func testDefaultPrincipal(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	p := newScript(s.w.Password)
	if err := s.logIn(t, "", p); err != nil {
		t.Fatal(err)
	}
	p.askedOnce(t, s.w.Principal) // whoever the ticket belongs to
	s.signedIn(t, s.w.Principal)
}

func testWrongPassword(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	before, attempts := s.status(t), s.w.Attempts(t)
	for i := range 2 {
		p := newScript(wrongPassword)
		isKDCError(t, s.logIn(t, s.w.Principal, p), ticket.ErrPassword, s.w.realm())
		p.askedOnce(t, s.w.Principal)
		if n := s.w.Attempts(t) - attempts; n != i+1 {
			t.Errorf("sign-in %d: the KDC has seen %d attempts", i+1, n)
		}
	}
	s.untouched(t, before)
}

func testRefusedPrompt(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	before, attempts := s.status(t), s.w.Attempts(t)
	p := newScript(s.w.Password)
	p.refuse = errors.New("the person does not want to")
	if err := s.logIn(t, s.w.Principal, p); !errors.Is(err, p.refuse) {
		t.Errorf("got %v, want %v", err, p.refuse)
	}
	p.askedOnce(t, s.w.Principal)
	if n := s.w.Attempts(t) - attempts; n != 0 {
		t.Errorf("the KDC has seen %d attempts, want none", n)
	}
	s.untouched(t, before)
}

func testUnknownPrincipal(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	before := s.status(t)
	isKDCError(t, s.logIn(t, s.w.Nobody, newScript(s.w.Password)), ticket.ErrPrincipalUnknown, s.w.realm())
	s.untouched(t, before)
}

func testLocked(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	before := s.status(t)
	isKDCError(t, s.logIn(t, s.w.Locked, newScript(s.w.Password)), ticket.ErrRevoked, s.w.realm())
	s.untouched(t, before)
}

func testExpiredPassword(t *testing.T, s suite) {
	defer s.w.SignOut(t)
	s.w.SignOut(t)
	principal := s.w.Stale(t)
	p := newScript(s.w.Password, [2]string{newPassword, newPassword})
	if err := s.logIn(t, principal, p); err != nil {
		t.Fatal(err)
	}
	var kinds []ticket.PromptKind
	for _, q := range p.asked {
		kinds = append(kinds, q.Kind)
		if !q.Hidden {
			t.Errorf("shows the answer while it is typed: %+v", q)
		}
	}
	if got, want := fmt.Sprint(kinds), fmt.Sprint([]ticket.PromptKind{ticket.PromptPassword, ticket.PromptNewPassword, ticket.PromptNewAgain}); got != want {
		t.Errorf("asked %v, want %v", got, want)
	}
	s.signedIn(t, principal)
	if err := s.logIn(t, principal, newScript(newPassword)); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	isKDCError(t, s.logIn(t, principal, newScript(s.w.Password)), ticket.ErrPassword, s.w.realm())
}

func testNewPasswordsDiffer(t *testing.T, s suite) {
	defer s.w.SignOut(t)
	s.rejects(t, [2]string{newPassword, newPassword + "?"})
}

func testNewPasswordRejected(t *testing.T, s suite) {
	defer s.w.SignOut(t)
	if p := s.rejects(t, [2]string{s.w.Short, s.w.Short}); len(p.banners) > 2 && p.banners[2] == "" {
		t.Error("asks again without saying why")
	}
}

// rejects changes a password that has expired to what cannot be, then, if the
// backend asks again, to a good one. It may also give up.
func (s suite) rejects(t *testing.T, bad [2]string) *script {
	t.Helper()
	s.signIn(t, time.Hour)
	before, principal := s.status(t), s.w.Stale(t)
	p := newScript(s.w.Password, bad, [2]string{newPassword, newPassword})
	if err := s.logIn(t, principal, p); err == nil {
		if len(p.pairs) != 0 {
			t.Error("takes what cannot be")
		}
		s.signedIn(t, principal)
	} else {
		if !errors.Is(err, ticket.ErrPasswordExpired) {
			t.Errorf("got %v, want %v", err, ticket.ErrPasswordExpired)
		}
		s.untouched(t, before)
	}
	return p
}

func testLoginKDCDown(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	before := s.status(t)
	s.w.KDCDown(t)
	defer s.w.KDCUp(t)
	isKDCError(t, s.logIn(t, s.w.Principal, newScript(s.w.Password)), ticket.ErrKDCUnreachable, s.w.realm())
	s.untouched(t, before)
}

func testSignOut(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	s.changesStamp(t, "signing out", func() {
		if err := s.b.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	s.hasNoTicket(t)
	if err := s.b.SignOut(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("a second time: got %v, want %v", err, ticket.ErrNoTicket)
	}
	s.signIn(t, time.Hour)
}
