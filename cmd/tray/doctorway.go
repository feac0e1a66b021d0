package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
)

// The checks of the way: from a program to the helper, and from there to and
// through the upstream.

// greet asks the listener at addr for itself, which a Kerbpass answers with a
// cause and without going anywhere.
func greet(ctx context.Context, addr string) (cause proxy.Cause, kerbpass bool, err error) {
	resp, err := askAt(ctx, addr, "GET http://"+addr+"/ HTTP/1.1\r\nHost: "+addr+"\r\nConnection: close\r\n\r\n")
	if err != nil {
		return "", false, err
	}
	cause, kerbpass = kerbpassCause(resp.Header)
	return cause, kerbpass, nil
}

// kerbpassCause is the cause in an answer of a Kerbpass.
func kerbpassCause(h http.Header) (cause proxy.Cause, kerbpass bool) {
	if !strings.HasPrefix(h.Get("Proxy-Status"), "kerbpass;") {
		return "", false
	}
	return ownCause(h), true
}

// askAt sends one request to addr on a connection of its own, and returns the head
// of the answer.
func askAt(ctx context.Context, addr, raw string) (*http.Response, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return talk(ctx, conn, raw)
}

// errSpeaksTLS: an answer that is TLS and not HTTP.
var errSpeaksTLS = errors.New("it speaks TLS")

// talk sends raw and returns the head of the answer, until ctx ends.
func talk(ctx context.Context, conn net.Conn, raw string) (*http.Response, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, werr := io.WriteString(conn, raw)
	br := bufio.NewReaderSize(io.LimitReader(conn, 1<<20), 64<<10)
	// An answer may come although the request was not taken to its end.
	first, err := br.Peek(1)
	if err != nil {
		if werr != nil {
			err = werr
		}
		return nil, lateOr(ctx, err)
	}
	if first[0] == 0x15 || first[0] == 0x16 { // alert or handshake, RFC 8446 section 5.1
		return nil, errSpeaksTLS
	}
	method, _, _ := strings.Cut(raw, " ")
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return nil, lateOr(ctx, err)
	}
	resp.Body = http.NoBody
	return resp, nil
}

// lateOr tells the end of ctx from an error of its own.
func lateOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (x *examination) checkListener(ctx context.Context) doctor.Finding {
	if x.helperErr != nil {
		return broken(proxy.CauseInternal, "Put right what is named there; if a Kerbpass is running, end it and start it again.", "Whether Kerbpass is running cannot be found out (%v).", x.helperErr)
	}
	var free, taken, answered []string
	for _, addr := range x.listen {
		if ap, err := netip.ParseAddrPort(addr); err == nil && ap.Port() == 0 && !x.running {
			free = append(free, addr)
			continue
		}
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		cause, kerbpass, err := greet(try, addr)
		cancel()
		var op *net.OpError
		switch {
		case errors.As(err, &op) && op.Op == "dial":
			free = append(free, addr)
			continue
		case x.running:
			answered = append(answered, addr)
			continue
		case kerbpass && cause == proxy.CauseNotYourUser:
			return broken(cause, "Start Kerbpass for your own user at another address, with --listen or in the settings.", "%s belongs to the Kerbpass of another user of this computer.", addr)
		case kerbpass && x.beside:
			answered = append(answered, addr)
			continue
		case kerbpass:
			return broken(proxy.CauseInternal, "End that one (kerbpass quit in the session that started it), then start it again.", "A Kerbpass that cannot be talked to listens on %s%s.", addr, portOwner(addr))
		}
		taken = append(taken, addr+portOwner(addr))
	}
	list := func(all []string) string { return strings.Join(all, " and ") }
	switch {
	case len(taken) > 0:
		return broken(proxy.CauseInternal, "End that program, or give Kerbpass another address with --listen or in the settings.",
			"Kerbpass is not running, and its address is taken by another program: %s.", list(taken))
	case x.beside && len(answered) > 0:
		return good("The Kerbpass that listens on %s is left alone; the values given here are examined beside it.", list(answered))
	case !x.running:
		return noted("", "Start it: kerbpass, or kerbpass run.", "Kerbpass is not running, so no program finds it on %s. The rest is examined without it.", list(free))
	case len(answered) == 0:
		return broken(proxy.CauseInternal, "Start it again: kerbpass quit, then kerbpass.", "Kerbpass is running, but nothing answers on %s.", list(free))
	case len(free) > 0:
		return noted(proxy.CauseInternal, "Start it again: kerbpass quit, then kerbpass.", "Kerbpass answers on %s, but not on %s.", list(answered), list(free))
	}
	return good("Kerbpass listens on %s.", list(answered))
}

func (x *examination) checkSameUser(ctx context.Context) doctor.Finding {
	switch cause, kerbpass, err := greet(ctx, x.through); {
	case err != nil:
		return broken(proxy.CauseInternal, "Start Kerbpass again: kerbpass quit, then kerbpass.", "%s took a connection and did not answer (%v).", x.through, err)
	case !kerbpass:
		return broken(proxy.CauseInternal, "End that program, or give Kerbpass another address with --listen or in the settings.", "What answers on %s is not Kerbpass%s.", x.through, portOwner(x.through))
	case cause == proxy.CauseNotYourUser:
		return broken(cause, "", "Kerbpass on %s does not take this program for one of its user's.", x.through)
	}
	if x.app.now.Load().anyUser {
		return noted("", "Switch same_user_only on under [access] in the settings.", "It is switched off: every user of this computer can use your ticket.")
	}
	return good("Your programs are let in, others are not.")
}

// dial opens a plain connection to an upstream, as the proxy does.
func (x *examination) dial(ctx context.Context, up *proxy.Upstream) (net.Conn, error) {
	dial := x.app.cfg.dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return dial(ctx, "tcp", net.JoinHostPort(up.Host, fmt.Sprint(up.Port)))
}

func (x *examination) checkName(ctx context.Context) doctor.Finding {
	host := strings.TrimSuffix(x.known().upstream.Host, ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return needless(host + " is an address, so there is no name to look up.")
	}
	if x.app.cfg.dial != nil {
		return needless("Names are those of the demo.")
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsTimeout || ctx.Err() != nil {
			return broken(proxy.CauseTimeout, "Check the network or VPN connection: the name server does not answer.", "Looking up %s took too long.", host)
		}
		return broken(proxy.CauseUpstreamUnresolved, "", "No address is known for %s (%v).", host, err)
	}
	const most = 4
	shown := addrs
	if len(shown) > most {
		shown = append(shown[:most:most], "…")
	}
	seen := fmt.Sprintf("%s has the address %s.", host, strings.Join(shown, ", "))
	if name := canonicalName(ctx, host); name != strings.ToLower(host) {
		x.learn(func(f *facts) { f.alias = name })
		seen = fmt.Sprintf("%s is an alias of %s, which has the address %s.", host, name, strings.Join(shown, ", "))
	}
	return good("%s", seen)
}

// canonicalName follows aliases to their end. Of several in a row, LookupCNAME
// may return any.
func canonicalName(ctx context.Context, host string) string {
	name := strings.ToLower(host)
	for range 8 {
		next, err := net.DefaultResolver.LookupCNAME(ctx, name)
		next = strings.TrimSuffix(strings.ToLower(next), ".")
		if err != nil || next == "" || next == name {
			break
		}
		name = next
	}
	return name
}

func (x *examination) checkTCP(ctx context.Context) doctor.Finding {
	up := x.known().upstream
	began := time.Now()
	conn, err := x.dial(ctx, up)
	if err != nil {
		var dns *net.DNSError
		switch {
		case errors.As(err, &dns):
			return broken(proxy.CauseUpstreamUnresolved, "", "No address is known for %s.", up.Host)
		case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
			return broken(proxy.CauseUpstreamUnreachable, "", "%s did not accept a connection in time.", up.URL)
		}
		return broken(proxy.CauseUpstreamUnreachable, "", "%s did not accept a connection (%v).", up.URL, err)
	}
	defer conn.Close()
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil && x.isOurs(a.Addr().Unmap().String(), a.Port()) {
		return broken(proxy.CauseLoop, "", "The upstream %s is Kerbpass itself.", up.URL)
	}
	return good("%s accepted it after %d ms.", conn.RemoteAddr(), time.Since(began).Milliseconds())
}

func (x *examination) tlsConfig(up *proxy.Upstream) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if x.app.cfg.tls != nil {
		cfg = x.app.cfg.tls.Clone()
	}
	cfg.ServerName, cfg.NextProtos = up.Host, []string{"http/1.1"}
	return cfg
}

func (x *examination) checkTLS(ctx context.Context) doctor.Finding {
	up := x.known().upstream
	if !up.TLS {
		return needless("It is an http:// proxy: what is inside https pages is encrypted all the same.")
	}
	conn, err := x.dial(ctx, up)
	if err != nil {
		return broken(proxy.CauseUpstreamUnreachable, "", "%s did not accept another connection (%v).", up.URL, err)
	}
	defer conn.Close()
	cfg := x.tlsConfig(up)
	// Verified below, so that a chain that is not accepted can be shown; nothing
	// but the handshake goes over this connection.
	cfg.InsecureSkipVerify = true
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return broken(proxy.CauseUpstreamUnreachable, "", "%s did not finish the TLS handshake in time.", up.URL)
		}
		var notTLS tls.RecordHeaderError
		if errors.As(err, &notTLS) {
			return broken(proxy.CauseUpstreamTLS, "Write http:// in the upstream setting: most proxies are http://, also for https pages.", "%s does not speak TLS.", up.URL)
		}
		return broken(proxy.CauseUpstreamTLS, "Check that it is an https:// proxy: most are http://, also for https pages.", "%s: no TLS connection could be made (%v).", up.URL, err)
	}
	return judgeChain(up, cfg, t.ConnectionState().PeerCertificates)
}

// judgeChain verifies a chain against the upstream's name, and shows it.
func judgeChain(up *proxy.Upstream, cfg *tls.Config, chain []*x509.Certificate) doctor.Finding {
	if len(chain) == 0 {
		return broken(proxy.CauseUpstreamTLS, "", "%s showed no certificate.", up.URL)
	}
	leaf, last := chain[0], chain[len(chain)-1]
	var names []string
	for _, c := range chain {
		names = append(names, quoted(c.Subject.String()))
	}
	shown := fmt.Sprintf("The chain is %s, signed by %s.", strings.Join(names, ", then "), quoted(last.Issuer.String()))
	opts := x509.VerifyOptions{Roots: cfg.RootCAs, DNSName: up.Host, Intermediates: x509.NewCertPool()}
	if cfg.Time != nil {
		opts.CurrentTime = cfg.Time()
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(opts)
	var (
		wrongName x509.HostnameError
		unknown   x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case err == nil:
		return good("Its certificate is for %s and good until %s. %s", up.Host, leaf.NotAfter.UTC().Format(time.DateOnly), shown)
	case errors.As(err, &wrongName):
		return broken(proxy.CauseUpstreamTLS, "Write one of those names in the upstream setting, or ask the proxy's administrator for a certificate with its name.",
			"Its certificate is for %s, not for %s. %s", certNames(leaf), up.Host, shown)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(leaf.NotBefore):
		return broken(proxy.CauseUpstreamTLS, "Check this computer's clock first, then ask the proxy's administrator.", "Its certificate is not good before %s. %s", leaf.NotBefore.UTC().Format(time.RFC3339), shown)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return broken(proxy.CauseUpstreamTLS, "Check this computer's clock first; if it is right, ask the proxy's administrator for a new certificate.", "Its certificate, or one that signed it, has expired; its own was good until %s. %s", leaf.NotAfter.UTC().Format(time.RFC3339), shown)
	case errors.As(err, &unknown):
		return broken(proxy.CauseUpstreamTLS, "Ask your help desk for the company's CA certificate, check its fingerprint with them, and add it to the system's trusted ones.",
			"This system does not trust who signed its certificate. %s If you expect another signer, something in between re-signs connections.", shown)
	}
	return broken(proxy.CauseUpstreamTLS, "", "Its certificate is not accepted (%v). %s", err, shown)
}

func quoted(s string) string { return "“" + s + "”" }

func certNames(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}

// ask sends a request for a host that exists nowhere to the upstream, with more
// header lines, and returns the head of its answer. The certificate of an
// upstream with TLS is verified first.
func (x *examination) ask(ctx context.Context, more string) (*http.Response, error) {
	up := x.known().upstream
	conn, err := x.dial(ctx, up)
	if err != nil {
		return nil, err
	}
	if up.TLS {
		t := tls.Client(conn, x.tlsConfig(up))
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = t
	}
	defer conn.Close()
	return talk(ctx, conn, "GET "+testTarget+" HTTP/1.1\r\nHost: "+testHost+"\r\nAccept: */*\r\n"+more+"Connection: close\r\n\r\n")
}

const testHost = "kerbpass-test.invalid" // of testTarget

// noAnswer words why the upstream gave none.
func (x *examination) noAnswer(err error, to string) doctor.Finding {
	up := x.known().upstream
	switch {
	case isLate(err):
		return broken(proxy.CauseTimeout, "Try again later; if it stays so, check that the upstream setting names the right port, or ask the proxy's administrator.", "%s accepted a connection, but did not answer %s.", up.URL, to)
	case errors.Is(err, errSpeaksTLS):
		return broken(proxy.CauseUpstreamTLS, "Write https:// in the upstream setting, or the proxy's port for plain connections.", "%s speaks TLS, but the upstream setting says http://.", up.URL)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return broken(proxy.CauseUpstreamUnreachable, "Check that the upstream setting names a proxy and its right port.", "%s closed the connection without an answer %s.", up.URL, to)
	}
	return broken(proxy.CauseUpstreamUnreachable, "Check that the upstream setting names a proxy and its right port.", "%s gave no valid HTTP answer %s (%v).", up.URL, to, err)
}

func isLate(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// offers are the schemes of a 407, and what stands behind Negotiate.
func offers(h http.Header) (schemes []string, data []byte) {
	for _, line := range h.Values("Proxy-Authenticate") {
		inQuotes := false
		for member := range strings.FieldsFuncSeq(line, func(r rune) bool {
			if r == '"' {
				inQuotes = !inQuotes
			}
			return r == ',' && !inQuotes
		}) {
			name, rest, _ := strings.Cut(strings.TrimSpace(member), " ")
			rest = strings.TrimSpace(rest)
			// "realm=…" goes on with the challenge before.
			if name == "" || strings.ContainsAny(name, `="`) || strings.HasPrefix(rest, "=") || len(name) > 32 {
				continue
			}
			schemes = append(schemes, name)
			if strings.EqualFold(name, "Negotiate") && data == nil && rest != "" {
				data, _ = base64.StdEncoding.DecodeString(rest)
			}
		}
	}
	return schemes, data
}

func has(schemes []string, name string) bool {
	for _, s := range schemes {
		if strings.EqualFold(s, name) {
			return true
		}
	}
	return false
}

func (x *examination) checkChallenge(ctx context.Context) doctor.Finding {
	up := x.known().upstream
	sent := time.Now()
	patience, cancel := context.WithTimeout(ctx, bareLimit-time.Second)
	defer cancel()
	resp, err := x.ask(patience, "")
	if err != nil && !isLate(err) && !errors.Is(err, errSpeaksTLS) && !up.TLS && x.speaksTLS(ctx, up) {
		err = errSpeaksTLS
	}
	if err != nil {
		return x.noAnswer(err, "to a request")
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// The Date has whole seconds, cut off, and was made between then and now.
		skew := time.Since(date.Add(500*time.Millisecond)) - time.Since(sent)/2
		x.learn(func(f *facts) { f.skew, f.dated = skew, true })
	}
	if cause, kerbpass := kerbpassCause(resp.Header); kerbpass {
		if cause == proxy.CauseLoop {
			return broken(cause, "", "The request to %s came back to Kerbpass itself.", up.URL)
		}
		_, hint, _ := cause.Explain()
		return broken(cause, hint, "%s is another Kerbpass, and answers %s.", up.URL, cause)
	}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
	case resp.StatusCode == http.StatusBadRequest && !up.TLS && x.speaksTLS(ctx, up):
		return x.noAnswer(errSpeaksTLS, "")
	case resp.StatusCode < 400, resp.StatusCode == http.StatusNotFound:
		return noted("", "Check that the upstream setting names a proxy and its right port.", "It answers %d to a request for a host that does not exist, so it may be a web server and no proxy.", resp.StatusCode)
	default:
		return good("It asks for nothing: it answers %d to a request without credentials.", resp.StatusCode)
	}
	if up.NoAuth {
		return broken(proxy.CauseUpstreamNotAllowed, allowHint(up), "It asks for credentials and gets none: only the configuration script (PAC) names it.")
	}
	x.learn(func(f *facts) { f.asks = true })
	schemes, _ := offers(resp.Header)
	return judgeOffers(up, schemes)
}

// speaksTLS reports whether an upstream that is set as http:// answers a TLS
// handshake; many servers complain in plain HTTP about a request without one.
func (x *examination) speaksTLS(ctx context.Context, up *proxy.Upstream) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := x.dial(ctx, up)
	if err != nil {
		return false
	}
	defer conn.Close()
	cfg := x.tlsConfig(up)
	cfg.InsecureSkipVerify = true // nothing is sent over this connection
	return tls.Client(conn, cfg).HandshakeContext(ctx) == nil
}

// judgeOffers looks for Kerberos in what an upstream wants.
func judgeOffers(up *proxy.Upstream, schemes []string) doctor.Finding {
	list := strings.Join(schemes, ", ")
	if up.Scheme != "" {
		return judgeLogin(up, schemes, list)
	}
	switch {
	case has(schemes, "Negotiate"):
		return good("407, and it offers %s.", list)
	case has(schemes, "NTLM"):
		return broken(proxy.CauseNegotiateNotOffered, "Check that the upstream is the right proxy, and ask its administrator for Negotiate (Kerberos).", "%s wants NTLM, the old kind of sign-in, and does not offer Negotiate (Kerberos). It offers: %s.", up.URL, list)
	case list == "":
		list = "nothing"
	}
	return broken(proxy.CauseNegotiateNotOffered, "Check that the upstream is the right proxy, or ask its administrator for Negotiate (Kerberos).", "%s does not offer Negotiate (Kerberos). It offers: %s.", up.URL, list)
}

const (
	clockNoted  = 2 * time.Minute
	clockBroken = 5 * time.Minute // RFC 4120 section 1.6 calls it typical
)

// wrongClock reports a clock that Kerberos does not bear.
func (f facts) wrongClock() bool { return f.dated && f.skew.Abs() > clockBroken }

// byHowMuch words the difference of the clocks.
func (f facts) byHowMuch() string {
	way := "ahead of"
	if f.skew < 0 {
		way = "behind"
	}
	return fmt.Sprintf("This computer's clock is %v %s the upstream's", f.skew.Abs().Round(time.Second), way)
}

const setClock = "Set date, time and time zone of this computer, then sign in again. If they are right, the upstream's are wrong: tell its administrator."

func (x *examination) checkClock(ctx context.Context) doctor.Finding {
	f := x.known()
	switch {
	case !f.dated:
		return needless("The upstream does not tell its time.")
	case f.skew.Abs() <= clockNoted:
		return good("It agrees with the upstream's to %v.", max(time.Second, f.skew.Abs().Round(time.Second)))
	case !f.wrongClock():
		return noted(proxy.CauseClockSkew, setClock, "%s. More than 5 minutes would be too much.", f.byHowMuch())
	}
	// Libraries know the KDC's time and can make up for it, so the proof is a
	// token at the upstream.
	if !f.asks || !x.kerberosOn() || f.byPassword() {
		return noted(proxy.CauseClockSkew, setClock, "%s.", f.byHowMuch())
	}
	if h := x.present(ctx); h.err == nil && h.tokenErr == nil && h.status != http.StatusProxyAuthRequired {
		return noted(proxy.CauseClockSkew, setClock, "%s, but the Kerberos library makes up for it.", f.byHowMuch())
	}
	return broken(proxy.CauseClockSkew, setClock, "%s; Kerberos bears 5 minutes.", f.byHowMuch())
}

// handshake is what came of one token at the upstream.
type handshake struct {
	tokenErr error // there was no token to send
	err      error
	status   int
	schemes  []string
	data     []byte
	size     int  // of the Proxy-Authorization line
	tooLarge bool // a line of that size is refused, whatever is in it
}

// present sends a fresh token to the upstream, once in a run.
func (x *examination) present(ctx context.Context) handshake {
	x.shaking.Do(func() { x.shake = x.presentToken(ctx) })
	return x.shake
}

func (x *examination) presentToken(ctx context.Context) (h handshake) {
	ask := func(more string) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(ctx, answerLimit-time.Second)
		defer cancel()
		return x.ask(ctx, more)
	}
	if try := x.attempt(ctx); try.err != nil {
		return handshake{tokenErr: try.err}
	}
	cur := x.app.tickets.cur.Load()
	tok, err := cur.Token(ctx, x.token.spn)
	if err != nil {
		return handshake{tokenErr: err}
	}
	if kindOfToken(tok) == kindNTLM {
		clear(tok)
		return handshake{tokenErr: &proxy.Error{Cause: proxy.CauseNTLM}}
	}
	line := "Proxy-Authorization: Negotiate " + base64.StdEncoding.EncodeToString(tok) + "\r\n"
	clear(tok)
	h.size = len(line)
	resp, err := ask(line)
	if h.err = err; err == nil {
		h.status = resp.StatusCode
		h.schemes, h.data = offers(resp.Header)
	}
	if h.status == http.StatusRequestHeaderFieldsTooLarge {
		h.tooLarge = true
	} else if err != nil && !isLate(err) || h.status == http.StatusBadRequest || h.status == http.StatusRequestEntityTooLarge || h.status == http.StatusRequestURITooLong {
		// Is it the token, or its size? Another line of that size tells.
		filler := "X-Kerbpass-Test: "
		resp, err := ask(filler + strings.Repeat("a", max(0, h.size-len(filler)-2)) + "\r\n")
		h.tooLarge = err != nil || resp.StatusCode != http.StatusProxyAuthRequired
	}
	return h
}

func (x *examination) checkAccepted(ctx context.Context) doctor.Finding {
	f := x.known()
	if !f.asks {
		return needless("The upstream does not ask for a token.")
	}
	if f.byPassword() {
		return needless("The upstream gets a password, no token: the next check sends it.")
	}
	h := x.present(ctx)
	last := ""
	if x.lastAuth.Time != nil && x.lastAuth.Result != proxy.AuthNone {
		last = fmt.Sprintf(" The last one of the running helper, at %s: %s.", local(x.lastAuth.Time), strings.ReplaceAll(strings.TrimSpace(string(x.lastAuth.Result)+" "+string(x.lastAuth.Cause)), "_", " "))
	}
	switch {
	case h.tokenErr != nil:
		return brokenBy(h.tokenErr, x.token.spn)
	case h.tooLarge:
		return broken(proxy.CauseTokenTooLarge, "", "%s does not take a header line of %d bytes, which is the size of the token's. Tokens grow with the number of groups the account is in.%s", f.upstream.URL, h.size, last)
	case h.err != nil:
		return x.noAnswer(h.err, "to a token")
	case h.status != http.StatusProxyAuthRequired:
		return good("It took a fresh token (and answered %d about a host that does not exist).%s", h.status, last)
	case bytes.HasPrefix(h.data, []byte("NTLMSSP\x00")):
		return broken(proxy.CauseNTLM, "Ask the proxy's administrator: its Kerberos key or its name in Kerberos (SPN) is probably missing.", "%s answered a Kerberos token with an NTLM challenge.%s", f.upstream.URL, last)
	case !has(h.schemes, "Negotiate"):
		return judgeOffers(f.upstream, h.schemes)
	case f.wrongClock():
		return broken(proxy.CauseClockSkew, setClock, "It refused a fresh token. %s; Kerberos bears 5 minutes.%s", f.byHowMuch(), last)
	}
	action := "Ask the proxy's administrator whether its Kerberos key (keytab) for that name is up to date. A new ticket may help as well: kerbpass login."
	if f.alias != "" {
		action = fmt.Sprintf("The upstream's name is an alias of %s. Try canonicalize = \"cname\" under [kerberos] in the settings; else ask the proxy's administrator about its Kerberos key.", f.alias)
	}
	return broken(proxy.CauseTokenRefused, action, "%s refused a fresh token for %s; the clocks agree.%s", f.upstream.URL, x.token.spn, last)
}

func (x *examination) checkRequests(ctx context.Context) doctor.Finding {
	p := x.app.now.Load()
	h, err := route.ParseHost(testHost)
	if err != nil {
		return broken(proxy.CauseInternal, "", "%v.", err)
	}
	proxied := "Through the upstream: not tried, because a rule sends every host direct."
	if e := p.table.Explain(h, 80); e.Route == route.Proxy {
		began := time.Now()
		resp, err := askAt(ctx, x.through, "GET "+testTarget+" HTTP/1.1\r\nHost: "+testHost+"\r\nConnection: close\r\n\r\n")
		if err != nil {
			return broken(proxy.CauseTimeout, "", "A request through %s got no answer (%v).", x.through, err)
		}
		if cause, kerbpass := kerbpassCause(resp.Header); kerbpass {
			text, hint, _ := cause.Explain()
			if x.known().byPassword() && cause == proxy.CauseTokenRefused {
				text, hint = proxy.PasswordRefusedText, proxy.PasswordRefusedHint
			}
			return broken(cause, hint, "A request through %s failed. %s", x.through, text)
		}
		proxied = fmt.Sprintf("Through the upstream: it answered %d after %d ms.", resp.StatusCode, time.Since(began).Milliseconds())
	}
	seen, cause := x.bypassed(ctx, p)
	if cause != "" {
		_, hint, _ := cause.Explain()
		return noted(cause, hint, "%s %s", proxied, seen)
	}
	return good("%s %s", proxied, seen)
}

// bypassed sends one request that goes direct: to the first host of the exact
// list, else to a server of our own.
func (x *examination) bypassed(ctx context.Context, p *policy) (seen string, cause proxy.Cause) {
	for _, entry := range x.app.cfg.store.Snapshot().BypassExact {
		h, err := route.ParseHost(entry)
		if err != nil || h.IsLoopback() {
			continue
		}
		// Only a connection, at the ports of the web; nothing is asked for.
		for _, port := range []uint16{443, 80} {
			if p.noTunnel(port) {
				continue
			}
			at := fmt.Sprintf("%s:%d", bracket(h), port)
			resp, err := askAt(ctx, x.through, "CONNECT "+at+" HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
			if err != nil {
				return fmt.Sprintf("Direct: no answer about %s (%v).", h, err), proxy.CauseTimeout
			}
			var kerbpass bool
			if cause, kerbpass = kerbpassCause(resp.Header); !kerbpass {
				return fmt.Sprintf("Direct: %s can be reached.", h), ""
			}
			if cause != proxy.CauseDestinationUnreachable {
				break
			}
		}
		if cause == "" {
			continue
		}
		text, _, _ := cause.Explain()
		return fmt.Sprintf("Direct: %s is on the bypass list and fails. %s", h, text), cause
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Sprintf("Direct: not tried (%v).", err), ""
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	resp, err := askAt(ctx, x.through, fmt.Sprintf("GET http://%[1]s/ HTTP/1.1\r\nHost: %[1]s\r\nConnection: close\r\n\r\n", l.Addr()))
	if err != nil {
		return fmt.Sprintf("Direct: a request to this computer got no answer (%v).", err), proxy.CauseTimeout
	}
	if cause, kerbpass := kerbpassCause(resp.Header); kerbpass {
		return "Direct: a request to this computer fails.", cause
	}
	return "Direct: a request to this computer got its answer.", ""
}
