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
	text    string
	until   time.Time
	carried bool // by a person, who needs the port for longer than a window does
}

// A session is a cookie. Its name is random because cookies do not know ports:
// another program's page on this machine must not replace it by chance, nor
// one of ours that of another. Proof goes to the page, and never back.
type session struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Proof string `json:"proof"`
}

// issue returns a new token.
func (k *keys) issue(now time.Time, life time.Duration) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := token{random(), now.Add(life), life > tokenLife}
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
	s := session{"kerbpass-" + hex.EncodeToString(id), random(), random()}
	k.sessions = appendBounded(k.sessions, s, maxSessions)
	return s, true
}

// open returns the session that a request belongs to.
func (k *keys) open(r *http.Request) (_ session, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.sessions, func(s session) bool {
		c, err := r.Cookie(s.Name)
		return err == nil && same(c.Value, s.Value)
	})
	if i < 0 {
		return session{}, false
	}
	return k.sessions[i], true
}

// latest is until when a link that a person carries is good; zero: there is
// none.
func (k *keys) latest() (until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tokens {
		if t.carried && t.until.After(until) {
			until = t.until
		}
	}
	return until
}

func (k *keys) all() []session {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.sessions)
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
