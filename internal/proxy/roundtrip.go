package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// roundTrip sends the request and b where d says and returns with the head of
// the final answer in c.resp. After an error no connection is left. For a
// CONNECT that no proxy is asked for, the connection itself is the answer.
// Of several hops the next is tried while nothing can have been carried out; d
// names the one that was used in the end.
func (c *session) roundTrip(ctx context.Context, d *Decision, b *upload) (u *upConn, err error) {
	kerberos := d.Kerberos
	if len(d.Fallbacks) == 0 {
		c.take(d, d.first(), kerberos)
		return c.attempt(ctx, d, b)
	}
	all := c.s.byHealth(d)
	for i, up := range all {
		c.take(d, up, kerberos)
		u, err = c.attempt(ctx, d, b)
		unreached := err != nil && c.undialled && b.replayable()
		refused := err == nil && c.req.connect && c.resp.status >= 502 && c.resp.status <= 504
		if i == len(all)-1 || !unreached && !refused {
			break
		}
		if u != nil {
			u.Close()
		}
		c.s.log.Info("next way is tried", "instead_of", up.URL, "err", err)
	}
	return u, err
}

// attempt does so at one upstream, or at the origin, and reacts to a 407.
// Whatever the upstream says, it sees at most two requests, so at most two
// tokens, and five legs on one connection.
func (c *session) attempt(ctx context.Context, d *Decision, b *upload) (*upConn, error) {
	if c.req.connect && !d.asks() {
		c.resp.status = 200
		return c.obtain(ctx, d, true)
	}
	return c.attemptOn(ctx, nil, d, b)
}

// attemptOn does so on u first, unless that is nil.
func (c *session) attemptOn(ctx context.Context, u *upConn, d *Decision, b *upload) (_ *upConn, err error) {
	var (
		refusals   int  // 407s that no further leg could answer
		challenged bool // the upstream has asked for credentials
		repeated   bool // a dead pooled connection has been replaced
		unasked    bool // somebody on the way cannot bear our Expect

		carry Exchange // goes on with the next request
	)
	defer func() { closeExchange(carry) }()
	for {
		if u == nil {
			if u, err = c.obtain(ctx, d, repeated || refusals > 0); err != nil {
				return nil, err
			}
		}
		if b != nil && u.up != nil && u.up.Scheme == SchemeNTLM && !u.authed && c.s.offers(u, d, true) {
			if u, err = c.herald(ctx, u, d); err != nil {
				return nil, err
			}
		}
		var ex Exchange
		var header []byte
		size := 0
		switch {
		case u.ahead != nil:
			a := u.ahead
			u.ahead, ex, header, size = nil, a.ex, a.header, a.size
		case u.up != nil && d.Kerberos && (challenged || c.s.offers(u, d, b != nil)):
			ex, carry = carry, nil
			if ex, header, size, err = c.token(ctx, u, ex); err != nil {
				u.Close()
				return nil, err
			}
		}
		learned := false // from the challenge, for the next request
		for leg := 1; ; leg++ {
			err = c.send(u, header, !unasked && c.holds(u, d, b), b)
			clear(header)
			if err != nil || u.up == nil || c.resp.status != 407 {
				break
			}
			// The upstream wants (more) credentials.
			next, again, e := c.challenge(ctx, u, ex, d, size, leg, b)
			learned = again
			if e != nil {
				closeExchange(ex)
				u.Close()
				return nil, e
			}
			if next == nil {
				break
			}
			header = next
		}
		if err != nil {
			closeExchange(ex)
			dead := u.reused && !repeated && !c.wrote && c.unanswered && c.req.idempotent() && b.replayable() && !isTimeout(err)
			if u.spare {
				c.s.about(u.up).spares.lost(c.s.now())
			}
			u.Close()
			if dead && !errors.Is(err, errClientGone) {
				repeated, u = true, nil
				continue
			}
			return nil, err
		}
		if c.resp.status == 417 && c.asked {
			// Nothing has been carried out (RFC 9110 §10.1.1).
			closeExchange(ex)
			c.s.about(u.up).answered(false)
			u.Close()
			if !b.replayable() {
				e := fail(CauseBodyNotReplayable, nil, "%s answered 417 after more of the upload was sent than is kept.", u.up.URL)
				e.Text = "The corporate proxy could not say in time whether it takes the upload."
				return nil, e
			}
			unasked, u = true, nil
			continue
		}
		if u.up != nil && c.resp.status == 407 {
			// Refused, or asked for the first time: another token, on this
			// connection if it never carried one and is clean (S06), else on a
			// new one (S07).
			carried := header != nil
			if learned {
				carry = ex
			} else {
				judge(ex, carried, false)
				closeExchange(ex)
			}
			challenged = true
			refusals++
			switch {
			case u.authed && !carried:
				c.s.about(u.up).challenged(u.served)
			case carried && !learned:
				c.s.about(u.up).judged(false, u.epoch, time.Now())
				c.s.obs.Authenticated(AuthEvent{Time: time.Now(), Upstream: u.up, Result: AuthRefused, Cause: CauseTokenRefused, TokenBytes: size, Date: c.resp.date})
			}
			if refusals == maxAttempts {
				u.Close()
				return nil, refused(u, &c.resp)
			}
			if !b.replayable() {
				u.Close()
				return nil, fail(CauseBodyNotReplayable, nil, "%s asked for credentials after more of the upload was sent than is kept.", u.up.URL)
			}
			if carried || (b != nil && !b.finished) || !u.drain(&c.resp) || !alive(u) {
				u.Close()
				u = nil
			} else {
				c.mark = time.Now()
				u.reused = true // and may have been closed meanwhile (S18)
			}
			continue
		}
		if u.up != nil {
			if err := c.accepted(ctx, u, ex, size, d); err != nil {
				c.settle(u, b)
				u.Close()
				return nil, err
			}
		}
		return u, nil
	}
}

func closeExchange(ex Exchange) {
	if ex != nil {
		ex.Close()
	}
}

// judge tells a Watcher what became of what was sent, if something was.
func judge(ex Exchange, sent, accepted bool) {
	if w, ok := ex.(Watcher); ok && sent {
		w.Judged(accepted)
	}
}

// herald authenticates u, or a connection in its place, with a HEAD for the
// target of a request with a body. NTLM takes several legs, and a body cannot go
// with each; one without would be carried out where nobody asks for
// credentials, and only a safe method may be.
func (c *session) herald(ctx context.Context, u *upConn, d *Decision) (*upConn, error) {
	req, prefix, mark := c.req, c.prefix, c.resp
	c.req = request{method: "HEAD", target: req.target, maxFwd: -1} // 1.0: no informational answer is passed on
	c.prefix, c.resp = c.req.appendHead(nil, d, c.s.cfg.Name), response{}
	u, err := c.attemptOn(ctx, u, d, nil)
	if err == nil && !u.drain(&c.resp) {
		u.Close()
		err = fail(CauseUpstreamUnreachable, nil, "%s closed the connection that it had just authenticated.", u.up.URL)
	}
	c.req, c.prefix, c.resp = req, prefix, mark
	if err != nil {
		return nil, err
	}
	u.reused = true
	return u, nil
}

// offers reports whether a token goes with the request unasked: on a new
// connection when that is the way, or with a body in any case (E2: none travels
// before the connection is authenticated), and always where the upstream
// authenticates requests and not connections.
func (s *Server) offers(u *upConn, d *Decision, body bool) bool {
	return !u.authed && (d.Preemptive || body) || u.up.each() || s.about(u.up).wantsEach()
}

// obtain takes a pooled connection or a spare one, or dials. While it waits, a
// client that goes away ends the wait.
func (c *session) obtain(ctx context.Context, d *Decision, fresh bool) (*upConn, error) {
	key := keyOf(d)
	c.undialled = false
	if p := c.pinned; p != nil {
		c.pinned = nil
		if c.s.pool.take(p) && p.key == key && !fresh && !c.req.connect && c.s.fits(p, d.Kerberos) {
			p.reused = true
			return p, nil
		}
		p.Close()
	}
	if !fresh && !c.req.connect {
		if u := c.s.get(key, d.Kerberos, c.mark); u != nil {
			return u, nil
		}
	}
	var k *known
	if d.Route == RouteProxy {
		k = c.s.about(d.Upstream)
		if u := c.spare(ctx, d, k, fresh); u != nil {
			return u, nil
		}
	}
	wctx, stop := c.watch(ctx)
	defer stop()
	u, err := c.s.dial(wctx, d)
	if err != nil && wctx.Err() != nil {
		return nil, errClientGone
	}
	c.mark = time.Now()
	c.undialled = err != nil && asError(err).Cause != CausePolicy
	if k != nil {
		k.dialled(err == nil || beyond(err), c.mark)
	}
	return u, err
}

// spare takes a spare connection and sees to new ones. Only a request that can
// be sent again gets one: it must not fail because of it.
func (c *session) spare(ctx context.Context, d *Decision, k *known, fresh bool) *upConn {
	if c.s.cfg.Spares == 0 || c.s.cfg.Auth == nil {
		return nil
	}
	if !d.Kerberos || !d.Preemptive || d.Upstream.Scheme != "" {
		k.spares.drop(false)
		return nil
	}
	if fresh || !c.req.idempotent() || c.req.body != noBody {
		return nil
	}
	epoch, now := c.s.cfg.Auth.Epoch(), c.s.now()
	u := c.s.ask(k, epoch, now)
	c.s.refill(ctx, d.Upstream, k, epoch, now)
	if u != nil {
		u.reused, u.spare = true, true
	}
	return u
}

// token renders the first header line for u, of ex or, if that is nil, of a new
// exchange; nil when it has nothing to say yet. Only here, in newToken and in
// challenge does a token exist outside the Authenticator.
func (c *session) token(ctx context.Context, u *upConn, carry Exchange) (ex Exchange, header []byte, size int, err error) {
	if c.s.cfg.Auth == nil {
		closeExchange(carry)
		return nil, nil, 0, &Error{Cause: CauseKerberosUnavailable}
	}
	u.epoch = c.s.cfg.Auth.Epoch()
	if u.up.Scheme == "" && !c.s.about(u.up).mayOffer(u.epoch, c.mark) {
		return nil, nil, 0, fail(CauseTokenRefused, nil, "%s refused the last tokens of this ticket, so none is sent for a moment.", u.up.URL)
	}
	wctx, stop := c.watch(ctx)
	defer stop()
	if ex, header, size, err = c.s.newToken(wctx, u.up, carry, c.prefix); err != nil {
		if wctx.Err() != nil && ctx.Err() == nil {
			return nil, nil, 0, errClientGone
		}
		e := asError(err)
		c.s.obs.Authenticated(AuthEvent{Time: time.Now(), Upstream: u.up, Result: AuthFailed, Cause: e.Cause})
		return nil, nil, 0, e
	}
	c.mark = time.Now()
	return ex, header, size, nil
}

// newToken makes the first token of carry, or of a new exchange if that is nil,
// for a request to up whose head starts with prefix.
func (s *Server) newToken(ctx context.Context, up *Upstream, carry Exchange, prefix []byte) (ex Exchange, header []byte, size int, err error) {
	if up.NoAuth || up.SOCKS {
		closeExchange(carry)
		return nil, nil, 0, &Error{Cause: CauseUpstreamNotAllowed}
	}
	var tok []byte
	if ex = carry; ex == nil {
		ex, err = s.cfg.Auth.Begin(ctx, up)
	}
	if err == nil {
		if w, ok := ex.(Watcher); ok {
			method, rest, _ := bytes.Cut(prefix, []byte{' '})
			target, _, _ := bytes.Cut(rest, []byte{' '})
			w.Asked(string(method), string(target))
		}
		tok, err = ex.Next(ctx, nil)
	}
	if err == nil && (tok != nil || up.Scheme != SchemeDigest) {
		if header, err = credentials(up.scheme(), tok); up.scheme() != ex.Scheme() {
			err = &Error{Cause: CauseInternal, Err: errors.New("the exchange speaks another scheme than the upstream is set to")}
		}
		size = len(tok)
		clear(tok)
	}
	if err != nil {
		closeExchange(ex)
		return nil, nil, 0, err
	}
	return ex, header, size, nil
}

// challenge reads a 407. It returns the header line of a further leg on the
// same connection, or nil when only a new attempt can help; that goes on with ex
// if again is set.
func (c *session) challenge(ctx context.Context, u *upConn, ex Exchange, d *Decision, size, leg int, b *upload) (_ []byte, again bool, _ error) {
	ch := challenges{want: u.up.scheme()}
	c.resp.values("proxy-authenticate", ch.add)
	if u.up.NoAuth {
		e := fail(CauseUpstreamNotAllowed, nil, "%s asks for credentials (%s).", u.up.URL, offer(ch.offered))
		e.Text = "A proxy that is not on the list of allowed proxies asks for credentials. It got none."
		e.Hint = "If it is your company's, add " + u.up.addr() + " to kerberos.upstreams in the settings, or ask your administrator."
		return nil, false, e
	}
	if !d.Kerberos {
		return nil, false, fail(CauseKerberosOff, nil, "%s asks for credentials (%s).", u.up.URL, offer(ch.offered))
	}
	if !ch.found {
		if size > 0 {
			c.s.obs.Authenticated(AuthEvent{Time: time.Now(), Upstream: u.up, Result: AuthRefused, Cause: CauseNegotiateNotOffered, TokenBytes: size, Date: c.resp.date})
		}
		e := fail(CauseNegotiateNotOffered, nil, "%s offers: %s.", u.up.URL, offer(ch.offered))
		if u.up.Scheme != "" {
			e.Text = "The corporate proxy does not offer the way to log in that is set for it (" + u.up.Scheme + ")."
			e.Hint = "Correct its line in upstream_auth in the settings, or take it out: without one Kerberos is used."
		}
		return nil, false, e
	}
	if u.up.Scheme == "" && strings.HasPrefix(string(ch.data), string(ntlmSignature)) {
		return nil, false, fail(CauseNTLM, nil, "%s answered with an NTLM challenge.", u.up.URL)
	}
	if ex == nil || ch.data == nil && !ch.bad {
		return nil, false, nil
	}
	// A continuation belongs to this context and this connection (RFC 4559 §5).
	refusal := func(err error, text string) error {
		e := refused(u, &c.resp)
		var own *Error
		if u.up.Scheme != "" && errors.As(err, &own) {
			e = own
		} else {
			e.Err = err
			e.Detail += " " + text
		}
		judge(ex, true, false)
		c.s.about(u.up).judged(false, u.epoch, time.Now())
		c.s.obs.Authenticated(AuthEvent{Time: time.Now(), Upstream: u.up, Result: AuthRefused, Cause: e.Cause, TokenBytes: size, Date: c.resp.date})
		return e
	}
	if ch.bad {
		return nil, false, refusal(nil, "Its answer is not valid base64.")
	}
	tok, err := ex.Next(ctx, ch.data)
	switch {
	case err == nil && tok == nil && u.up.Scheme == SchemeDigest:
		return nil, true, nil
	case err != nil:
		return nil, false, refusal(err, "It ended the negotiation.")
	case tok == nil:
		return nil, false, refusal(nil, "It went on with a negotiation that was complete.")
	case leg >= maxLegs:
		return nil, false, refusal(nil, "The negotiation did not end.")
	case !b.replayable() || b != nil && !b.finished:
		return nil, false, &Error{Cause: CauseBodyNotReplayable}
	case !u.drain(&c.resp):
		return nil, false, refusal(nil, "It closed the connection in the middle of the negotiation.")
	}
	header, err := credentials(u.up.scheme(), tok)
	clear(tok)
	return header, false, err
}

func offer(schemes []string) string {
	if len(schemes) == 0 {
		return "no scheme"
	}
	return strings.Join(schemes, ", ")
}

// What a person is told whose password an upstream did not take.
const (
	PasswordRefusedText = "The corporate proxy did not accept the user name or the password."
	PasswordRefusedHint = "Set the password again: kerbpass password set. Until then it is not tried again, so that no account gets locked."
)

// refused describes a refused token; clocks are compared because every refusal
// of a Negotiate proxy looks the same and skew is its commonest reason.
func refused(u *upConn, r *response) *Error {
	if u.up.Scheme != "" {
		e := fail(CauseTokenRefused, nil, "%s answered 407 to it.", u.up.URL)
		e.Text, e.Hint = PasswordRefusedText, PasswordRefusedHint
		return e
	}
	e := fail(CauseTokenRefused, nil, "%s answered 407 to a fresh token.", u.up.URL)
	if skew := time.Since(r.date); !r.date.IsZero() && skew.Abs() > 2*time.Minute {
		e.Detail += " Its clock differs from this computer's by " + skew.Abs().Round(time.Second).String() + "."
	}
	return e
}

// accepted takes note of an answer that was no 407, and lets the exchange see
// what the upstream says about itself (H1, H2).
func (c *session) accepted(ctx context.Context, u *upConn, ex Exchange, size int, d *Decision) error {
	if ex != nil && size == 0 { // it had nothing to say
		ex.Close()
		ex = nil
	}
	if ex == nil {
		switch {
		case u.authed && !u.served:
			u.served = true
			c.s.about(u.up).servedBare()
		case d.Kerberos && !u.authed && !u.reused:
			c.s.obs.Authenticated(AuthEvent{Time: time.Now(), Upstream: u.up, Result: AuthNotChallenged})
		}
		return nil
	}
	defer ex.Close()
	judge(ex, true, true)
	ch := challenges{want: "Negotiate"} // none of the others proves the upstream
	c.resp.values("proxy-authenticate", ch.add)
	c.resp.values("proxy-authentication-info", ch.add)
	proven := u.up.Scheme == "" && c.resp.status < 300 && (ch.data != nil || ch.bad)
	if proven {
		if _, err := ex.Next(ctx, ch.data); err != nil || ch.bad {
			c.s.obs.Authenticated(AuthEvent{Time: time.Now(), Upstream: u.up, Result: AuthFailed, Cause: CauseTokenRefused, TokenBytes: size})
			return fail(CauseTokenRefused, err, "%s could not prove that it is the right proxy; its answer was dropped.", u.up.URL)
		}
	}
	u.authed = true
	if u.spare {
		u.spare = false
		c.s.about(u.up).spares.used()
	}
	c.s.about(u.up).judged(true, u.epoch, time.Now())
	c.s.obs.Authenticated(AuthEvent{Time: time.Now(), Upstream: u.up, Result: AuthAccepted, TokenBytes: size, Proven: proven})
	return nil
}

// send writes head and body and reads the head of the answer into c.resp.
// Informational answers are passed on, an answer that comes early stops
// nothing: the body goes on in its own goroutine until settle. With hold it
// waits for the upstream's leave.
func (c *session) send(u *upConn, header []byte, hold bool, b *upload) error {
	whole := b == nil
	c.asked = hold && !c.req.saysExpect
	c.unanswered = true
	small := 0
	if b != nil && b.kind == sized && !b.started && !b.lost && int64(len(b.rd.buffered())) >= b.left && b.left <= 16<<10 {
		// A small body that is here already goes with the head, in one write.
		body := b.rd.buffered()[:b.left]
		b.kept = append(b.kept, body...)
		b.rd.r += len(body)
		b.left, b.ended = 0, true
	}
	if b != nil && b.kind == sized && b.ended && !b.lost && !hold {
		b.finished, b.sent, whole, small = true, int64(len(b.kept)), true, len(b.kept)
	}
	// Room first: a slice that moves would leave the token behind.
	c.out = slices.Grow(c.out[:0], len(c.prefix)+len(header)+64+small)
	c.out = append(append(c.out, c.prefix...), header...)
	if c.asked {
		c.out = append(c.out, "Expect: 100-continue\r\n"...)
	}
	c.out = append(c.out, '\r', '\n')
	if small > 0 {
		c.out = append(c.out, b.kept...)
	}
	limit := c.s.cfg.AnswerTimeout
	if c.req.connect {
		limit /= 5
	}
	u.within(c.mark, limit)
	_, err := u.Write(c.out)
	clear(c.out[len(c.prefix):][:len(header)])
	if isTimeout(err) {
		return c.upstreamGone(u, err) // half a head: nothing may follow it
	}
	if err != nil && whole {
		// The answer may have come before the end of what we wrote.
		if len(u.rd.buffered()) == 0 && u.rd.fill() != nil {
			return c.upstreamGone(u, err)
		}
	}
	if hold && err == nil {
		switch went, err := c.awaitLeave(u); {
		case err != nil:
			return err
		case !went:
			return nil // the final answer is here; the body stays where it is
		}
	}
	if !whole {
		u.lift()
		u.limit.unsure = true
		b.done, b.answered = make(chan struct{}), false
		done := b.done
		go func() {
			defer close(done)
			b.send(u.Conn, u.up != nil || u.reused)
			switch {
			case b.clientErr != nil:
				// The origin must never take a half-sent body for a whole one.
				u.Conn.Close()
			default:
				b.arm(u.Conn, limit)
			}
		}()
	}
	err = c.readHead(u, false)
	if err != nil || c.resp.status == 407 && u.up != nil || c.resp.status == 417 && c.asked {
		c.settle(u, b)
		if b != nil && b.clientErr != nil && !isTimeout(b.clientErr) {
			return clientError(b.clientErr)
		}
	}
	return err
}

// leaveWait is how long an upstream may take to say that a body may come. One
// that takes longer is not asked again.
const leaveWait = 250 * time.Millisecond

// holds reports whether the body is held back until the upstream has said
// something about the head: more of it than is kept for a repeat may follow,
// and credentials can have gone stale on any connection. The real head asks,
// with Expect; never one without a body, which would be carried out.
func (c *session) holds(u *upConn, d *Decision, b *upload) bool {
	if b == nil || u.up == nil || !d.Kerberos || b.kind == sized && c.req.length <= maxReplay {
		return false
	}
	return c.s.about(u.up).heeds()
}

// awaitLeave waits for the answer to an Expect. went is false when a final
// answer is in c.resp instead.
func (c *session) awaitLeave(u *upConn) (went bool, err error) {
	u.SetReadDeadline(time.Now().Add(leaveWait))
	err = c.readHead(u, true)
	k := c.s.about(u.up)
	switch {
	case err == nil && c.resp.status == 100:
		k.answered(true)
		return true, nil
	case err == nil && c.resp.status == 417:
		k.answered(false)
		return false, nil
	case err == nil:
		return false, nil
	case isTimeout(err):
		k.answered(false)
		return true, nil
	}
	return false, err
}

// clientError tells a body the client got wrong from a client that went away.
func clientError(err error) error {
	if errors.Is(err, errChunk) || errors.Is(err, errBareLF) || errors.Is(err, errHeadTooLarge) {
		return fail(CauseBadRequest, err, "The request body is not validly chunked.")
	}
	return errClientGone
}

// settle ends an upload that nobody waits for any more. It reports whether the
// body had been sent whole.
func (c *session) settle(u *upConn, b *upload) bool {
	if b == nil || b.done == nil {
		return b == nil || b.finished
	}
	select {
	case <-b.done:
	default:
		c.patience(past)
		u.SetWriteDeadline(past)
		<-b.done
		c.patience(noDeadline)
		u.SetWriteDeadline(noDeadline)
		if isTimeout(b.clientErr) {
			b.clientErr = nil // ours
		}
	}
	b.done = nil
	return b.finished
}

// readHead reads heads until a final one is in c.resp, or with leave one that
// lets the body go.
func (c *session) readHead(u *upConn, leave bool) error {
	for {
		head, err := u.rd.head(maxResponseHead)
		if err != nil {
			c.unanswered = c.unanswered && len(u.rd.buffered()) == 0
			return c.upstreamGone(u, err)
		}
		c.unanswered = false
		if err := parseResponse(head, c.req.method, &c.resp); err != nil {
			return c.upstreamGone(u, err)
		}
		if c.resp.status >= 200 || c.resp.status == 101 && c.req.upgrade {
			return nil
		}
		if c.resp.status == 101 {
			return c.upstreamGone(u, errResponse)
		}
		ours := c.resp.status == 100 && c.asked // the client did not ask for it
		if ours && !leave {
			c.s.about(u.up).answered(true) // late, but it did
		}
		if !ours && c.req.minor == 1 && !c.req.connect {
			c.out = c.resp.appendHead(c.out[:0], c.req.method, c.s.cfg.Name, false, false)
			if _, err := c.c.Write(c.out); err != nil {
				return errClientGone
			}
		}
		if leave && c.resp.status == 100 {
			return nil
		}
	}
}

// upstreamGone names a connection that broke, or an answer that is none.
func (c *session) upstreamGone(u *upConn, err error) error {
	who, cause := "The server", CauseDestinationUnreachable
	if u.up != nil {
		who, cause = u.up.URL, CauseUpstreamUnreachable
	}
	switch {
	case isTimeout(err):
		return fail(CauseTimeout, err, "%s did not answer.", who)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return fail(cause, err, "%s closed the connection without an answer.", who)
	case errors.Is(err, errHeadTooLarge), errors.Is(err, errManyFields):
		return fail(cause, err, "%s sent a response head that is too large.", who)
	case errors.Is(err, errResponse), errors.Is(err, errBareLF), errors.Is(err, errFieldSyntax), errors.Is(err, errStartLine):
		return fail(cause, err, "%s sent an answer that is not valid HTTP.", who)
	}
	return fail(cause, err, "The connection to %s broke.", strings.TrimPrefix(who, "The "))
}
