package web

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	tokenLife   = 30 * time.Second
	maxTokens   = 8  // links that nobody has followed yet; the oldest gives way
	maxSessions = 16 // so too
)

// keys are the links that were given out and the sessions made from them.
type keys struct {
	mu       sync.Mutex // guards what follows
	tokens   []token    // oldest first
	sessions []session  // oldest first
}

// A token opens one session.
type token struct {
	text  string
	until time.Time
}

// A session is a cookie. Its name is random because cookies do not know ports:
// another program's page on this machine must not replace it by chance, nor
// one of ours that of another.
type session struct{ name, value string }

// issue returns a new token.
func (k *keys) issue(now time.Time) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := token{random(), now.Add(tokenLife)}
	k.tokens = appendBounded(k.tokens, t, maxTokens)
	return t.text
}

// redeem uses up a token and returns the session it opens.
func (k *keys) redeem(text string, now time.Time) (_ session, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tokens = slices.DeleteFunc(k.tokens, func(t token) bool {
		good := now.Before(t.until)
		used := good && same(t.text, text)
		ok = ok || used
		return used || !good
	})
	if !ok {
		return session{}, false
	}
	id := make([]byte, 8)
	rand.Read(id)
	s := session{"kerbpass-" + hex.EncodeToString(id), random()}
	k.sessions = appendBounded(k.sessions, s, maxSessions)
	return s, true
}

// open reports whether a request belongs to a session.
func (k *keys) open(r *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.sessions, func(s session) bool {
		c, err := r.Cookie(s.name)
		return err == nil && same(c.Value, s.value)
	})
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// random is 32 random bytes as text that fits a path and a cookie.
func random() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)
}

// appendBounded drops the first elements of list where it would exceed most.
func appendBounded[T any](list []T, v T, most int) []T {
	list = append(list, v)
	return slices.Delete(list, 0, max(0, len(list)-most))
}
