package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/go-ntlmssp"
	"github.com/icholy/digest"
)

// Exchange is the login on one connection, or of Digest and Basic for one
// request. One goroutine uses it.
type Exchange struct {
	a        *Account
	password *secret
	number   uint64        // of resets, when it began
	trial    chan struct{} // its own; nil: the password is known to be right

	method, target string // for Digest
	nonce          *nonce // of Digest, in use by this exchange
	sent           bool   // something that holds the password
	closed         bool
}

// nonce is a challenge of Digest that answers can be made for, one at a time.
type nonce struct {
	challenge digest.Challenge
	count     int  // of answers made with it
	worked    bool // one of them was accepted
}

// Scheme is the account's.
func (x *Exchange) Scheme() string { return string(x.a.cfg.Scheme) }

// Asked names the request that the next answer of Next is for.
func (x *Exchange) Asked(method, target string) { x.method, x.target = method, target }

// Next gives what goes behind the scheme. With a challenge, it takes what the
// proxy sent behind it. Digest's are the parameters as text, a line for each
// challenge to choose from; after one Next(nil) is asked again. Nil means that
// there is nothing to say yet. An error is an [ErrChallenge], or an
// [ErrRefused].
func (x *Exchange) Next(_ context.Context, challenge []byte) ([]byte, error) {
	switch x.a.cfg.Scheme {
	case Basic:
		if challenge != nil {
			return nil, fmt.Errorf("%w: Basic has none", ErrChallenge)
		}
		return x.basic()
	case NTLM:
		if challenge == nil {
			return ntlmssp.NewNegotiateMessage("", "")
		}
		return x.ntlm(challenge)
	}
	if challenge == nil {
		return x.digest()
	}
	return nil, x.learn(string(challenge))
}

// spend lends the password to f for an answer that is going to be sent. One that
// was refused or replaced meanwhile is gone: nothing is sent in its place.
func (x *Exchange) spend(f func(b []byte)) error {
	if !x.password.use(f) {
		return ErrRefused
	}
	x.sent = true
	return nil
}

func (x *Exchange) basic() (out []byte, err error) {
	err = x.spend(func(b []byte) {
		out = make([]byte, 0, len(x.a.cfg.User)+1+len(b))
		out = append(append(append(out, x.a.cfg.User...), ':'), b...)
	})
	return out, err
}

func (x *Exchange) ntlm(challenge []byte) (out []byte, err error) {
	switch {
	case x.sent:
		return nil, fmt.Errorf("%w: a second one", ErrChallenge)
	case !bytes.HasPrefix(challenge, []byte("NTLMSSP\x00\x02\x00\x00\x00")):
		return nil, fmt.Errorf("%w: it is no NTLM challenge", ErrChallenge)
	}
	// The library's message has no way to wipe the password it is given: a copy
	// stays until it is collected.
	var made error
	err = x.spend(func(b []byte) { out, made = ntlmssp.NewAuthenticateMessage(challenge, x.a.cfg.User, string(b), nil) })
	if made != nil {
		x.sent = false
		return nil, fmt.Errorf("%w: %v", ErrChallenge, made)
	}
	return out, err
}

// digest answers with a nonce of its own, so that counts arrive in order.
func (x *Exchange) digest() ([]byte, error) {
	if x.nonce == nil {
		if x.nonce = x.a.takeNonce(x.number); x.nonce == nil {
			return nil, nil
		}
	}
	n := x.nonce
	n.count++
	var c *digest.Credentials
	var made error
	err := x.spend(func(b []byte) {
		c, made = digest.Digest(&n.challenge, digest.Options{Method: x.method, URI: x.target, Count: n.count, Username: x.a.cfg.User, Password: string(b)})
	})
	if made != nil {
		x.sent = false
		return nil, fmt.Errorf("%w: %v", ErrChallenge, made)
	}
	if err != nil {
		return nil, err
	}
	return []byte(strings.TrimPrefix(c.String(), digest.Prefix)), nil
}

// learn takes a nonce from challenges, or finds that the last answer was
// refused: one to a fresh nonce, unless the proxy says that it is stale.
func (x *Exchange) learn(challenges string) error {
	var chosen *digest.Challenge
	why := errors.New("it holds none")
	for line := range strings.Lines(challenges) {
		c, err := digest.ParseChallenge(digest.Prefix + strings.TrimSuffix(line, "\n"))
		if err != nil {
			why = err
			continue
		}
		for i := range c.QOP {
			c.QOP[i] = strings.ToLower(strings.TrimSpace(c.QOP[i]))
		}
		switch {
		case c.Nonce == "" || !c.SupportsQOP("auth"), !digest.CanDigest(c):
			why = errors.New("algorithm or quality are not supported")
		case chosen == nil:
			chosen = c
		}
	}
	if chosen == nil {
		return fmt.Errorf("%w: %v", ErrChallenge, why)
	}
	if x.sent && !chosen.Stale && (x.nonce == nil || !x.nonce.worked) {
		return ErrRefused
	}
	x.nonce, x.sent = &nonce{challenge: *chosen}, false
	return nil
}

func (a *Account) takeNonce(number uint64) *nonce {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := len(a.nonces) - 1
	if last < 0 || number != a.number {
		return nil
	}
	n := a.nonces[last]
	a.nonces = a.nonces[:last]
	return n
}

func (a *Account) giveNonce(n *nonce, number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if number == a.number && !a.refused && len(a.nonces) < maxNonces {
		a.nonces = append(a.nonces, n)
	}
}

// Judged says what became of the last answer. Of one without the password in it
// nothing is learned.
func (x *Exchange) Judged(accepted bool) {
	if !x.sent {
		return
	}
	x.a.judged(x, accepted)
	if x.nonce != nil && accepted {
		x.nonce.worked = true
		x.a.giveNonce(x.nonce, x.number)
		x.nonce = nil
	}
	x.a.end(x.trial)
}

// Close ends the exchange. Others may try if it was a trial without a verdict.
func (x *Exchange) Close() error {
	if !x.closed {
		x.closed = true
		x.a.end(x.trial)
	}
	return nil
}
