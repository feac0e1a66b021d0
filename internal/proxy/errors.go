package proxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"net"
	"os"
	"syscall"
)

// A Cause is the machine-readable reason for which a request was not carried
// out. The list is closed.
type Cause string

// The causes.
const (
	CauseNoTicket               Cause = "no_ticket"
	CauseTicketExpired          Cause = "ticket_expired"
	CauseKDCUnreachable         Cause = "kdc_unreachable"
	CauseSPNUnknown             Cause = "spn_unknown"
	CauseClockSkew              Cause = "clock_skew"
	CauseNTLM                   Cause = "ntlm_instead_of_kerberos"
	CauseNegotiateNotOffered    Cause = "negotiate_not_offered"
	CauseTokenRefused           Cause = "token_refused"
	CauseTokenTooLarge          Cause = "token_too_large"
	CauseKerberosOff            Cause = "kerberos_off"
	CauseKerberosUnavailable    Cause = "kerberos_unavailable"
	CauseUpstreamUnreachable    Cause = "upstream_unreachable"
	CauseUpstreamUnresolved     Cause = "upstream_unresolved"
	CauseUpstreamTLS            Cause = "upstream_tls"
	CauseUpstreamNotAllowed     Cause = "upstream_not_allowed"
	CauseDestinationUnreachable Cause = "destination_unreachable"
	CauseDestinationUnresolved  Cause = "destination_unresolved"
	CauseTimeout                Cause = "timeout"
	CauseLoop                   Cause = "loop_detected"
	CauseBadRequest             Cause = "bad_request"
	CauseNotYourUser            Cause = "not_your_user"
	CauseBodyNotReplayable      Cause = "body_not_replayable"
	CauseNoPassword             Cause = "no_password"
	CausePasswordInClear        Cause = "password_in_clear"
	CausePolicy                 Cause = "policy"
	CauseInternal               Cause = "internal"
)

// An Error ends one request. Its texts are shown to the person at the other
// end, so they carry no token, no userinfo and no query string.
type Error struct {
	Cause Cause
	// Detail completes the cause's sentence for this case; may be empty.
	Detail string
	// Text and Hint stand in for the cause's own sentence and action where
	// those would be wrong for this case.
	Text, Hint string
	// Err is what happened underneath, for the log only.
	Err error

	busy  bool // too much at once: 503 instead of the cause's status
	login bool // a guarded listener asks for credentials: 407
}

// status is what the client gets.
func (e *Error) status() int {
	switch {
	case e.busy:
		return 503
	case e.login:
		return 407
	}
	return e.Cause.Status()
}

func (e *Error) Error() string {
	text := string(e.Cause)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

func fail(cause Cause, err error, format string, args ...any) *Error {
	return &Error{Cause: cause, Detail: fmt.Sprintf(format, args...), Err: err}
}

// Explain gives a cause's sentence, the action that helps, and whether the
// cause is known.
func (c Cause) Explain() (text, hint string, ok bool) {
	x, ok := explanations[c]
	return x.text, x.hint, ok
}

// Status is the status code a client gets for the cause.
func (c Cause) Status() int {
	if x, ok := explanations[c]; ok {
		return x.status
	}
	return 502
}

// explanations is the one table from cause to answer: status, the error type
// of RFC 9209 §2.3, a sentence and what to do next.
var explanations = map[Cause]struct {
	status     int
	rfc9209    string
	text, hint string
}{
	CauseNoTicket:               {502, "proxy_configuration_error", "There is no Kerberos ticket, so the corporate proxy cannot be used.", "Sign in: run kerbpass login, or lock and unlock the screen with your password, then try again."},
	CauseTicketExpired:          {502, "proxy_configuration_error", "The Kerberos ticket has expired, so the corporate proxy cannot be used.", "Sign in again: run kerbpass login, or lock and unlock the screen with your password, then try again."},
	CauseKDCUnreachable:         {502, "proxy_configuration_error", "No Kerberos server (KDC) answered, so no token could be made.", "Check the network or VPN connection to the company, then try again."},
	CauseSPNUnknown:             {502, "proxy_configuration_error", "The Kerberos server does not know the corporate proxy under its configured name.", "Use the proxy's full host name as upstream, or set kerberos.spn."},
	CauseClockSkew:              {502, "proxy_configuration_error", "This computer's clock differs too much from the Kerberos server's.", "Set the clock (date, time and time zone), then try again."},
	CauseNTLM:                   {502, "proxy_configuration_error", "The system offered NTLM instead of Kerberos, which is never sent.", "Use the proxy's full host name as upstream and sign in to the company domain."},
	CauseNegotiateNotOffered:    {502, "proxy_configuration_error", "The corporate proxy does not offer Negotiate (Kerberos).", "Check that the upstream is the right proxy."},
	CauseTokenRefused:           {502, "http_request_denied", "The corporate proxy refused the Kerberos token.", "Check the clock and the proxy's name, or get a new ticket: kerbpass login."},
	CauseTokenTooLarge:          {502, "proxy_configuration_error", "The Kerberos token is larger than the corporate proxy accepts.", "Ask the proxy's administrator to raise its header limit."},
	CauseKerberosOff:            {502, "proxy_configuration_error", "The corporate proxy wants Kerberos, but Kerberos is switched off.", "Switch it on: kerbpass kerberos on."},
	CauseKerberosUnavailable:    {502, "proxy_configuration_error", "The corporate proxy wants Kerberos, but this system has no usable Kerberos library.", "Install the MIT Kerberos library (libgssapi-krb5-2 or krb5-libs)."},
	CauseUpstreamUnreachable:    {502, "connection_refused", "The corporate proxy cannot be reached.", "Check the network or VPN connection and the upstream setting."},
	CauseUpstreamUnresolved:     {502, "dns_error", "The corporate proxy's name cannot be resolved.", "Check the network or VPN connection and the upstream setting."},
	CauseUpstreamTLS:            {502, "tls_certificate_error", "The TLS connection to the corporate proxy failed.", "Check that the upstream's name matches its certificate and that its CA is trusted."},
	CauseUpstreamNotAllowed:     {502, "proxy_configuration_error", "This upstream is not on the list of allowed proxies.", "Ask your administrator, or change the upstream setting."},
	CauseDestinationUnreachable: {502, "destination_unavailable", "The server cannot be reached.", "Check the address. If it is on the bypass list, it must be reachable without the corporate proxy."},
	CauseDestinationUnresolved:  {502, "dns_error", "The server's name cannot be resolved.", "Check the address. If it is on the bypass list, it must be resolvable without the corporate proxy."},
	CauseTimeout:                {504, "connection_timeout", "The other side did not answer in time.", "Try again later."},
	CauseLoop:                   {508, "proxy_loop_detected", "The request came back to Kerbpass itself.", "Check that the upstream setting does not point at Kerbpass."},
	CauseBadRequest:             {400, "http_request_error", "The request is not a valid proxy request.", "Check the program that sent it; its proxy setting must be an http:// address."},
	CauseNotYourUser:            {403, "http_request_denied", "This proxy belongs to another user of this computer.", "Start Kerbpass for your own user. The owner can allow you in access.allow_users."},
	CauseBodyNotReplayable:      {502, "http_request_error", "The corporate proxy asked for a new token after the upload had started.", "Repeat the request."},
	CauseNoPassword:             {502, "proxy_configuration_error", "The password for the corporate proxy is not to be had from the keyring.", "Put it there: kerbpass password set. If it is there, unlock the keyring."},
	CausePasswordInClear:        {502, "proxy_configuration_error", "The password for the corporate proxy travels in the clear: Basic over http:// can be read by everybody on the way.", "Ask for an https:// address of the proxy, or for Kerberos, Digest or NTLM."},
	CausePolicy:                 {403, "http_request_denied", "Your organisation's policy does not allow this request.", "Ask your administrator."},
	CauseInternal:               {502, "proxy_internal_error", "Kerbpass could not handle the request.", "Look into the log, and report it."},
}

// Causes lists every cause.
func Causes() []Cause {
	var all []Cause
	for c := range explanations {
		all = append(all, c)
	}
	return all
}

var reasons = map[int]string{400: "Bad Request", 403: "Forbidden", 407: "Proxy Authentication Required", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout", 508: "Loop Detected"}

// page renders the answer for e. It is a complete response head and body; with
// noBody only the head (an answer to HEAD).
func page(e *Error, wantHTML, close, noBody bool) []byte {
	x, ok := explanations[e.Cause]
	if !ok {
		x = explanations[CauseInternal]
	}
	if e.busy {
		x.status, x.rfc9209 = 503, "connection_limit_reached"
		x.text, x.hint = "Kerbpass is carrying as many connections as it can.", "Close some programs, or try again in a moment."
	}
	if e.login {
		x.status = 407
	}
	x.text, x.hint = cmp.Or(e.Text, x.text), cmp.Or(e.Hint, x.hint)
	if e.Text != "" && e.Err == nil {
		x.rfc9209 = "proxy_configuration_error" // nothing was tried
	}
	reason := reasons[x.status]
	var body string
	if wantHTML {
		esc := html.EscapeString
		detail := ""
		if e.Detail != "" {
			detail = "<p>" + esc(e.Detail) + "</p>\n"
		}
		body = fmt.Sprintf("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>%s</title>\n"+
			"<style>body{font:16px/1.5 system-ui,sans-serif;margin:3rem auto;max-width:38rem;padding:0 1rem;color-scheme:light dark}code{opacity:.7}</style>\n"+
			"<h1>%s</h1>\n%s<p><strong>What to do:</strong> %s</p>\n<p><code>Kerbpass, cause: %s</code></p>\n</html>\n",
			esc(x.text), esc(x.text), detail, esc(x.hint), e.Cause)
	} else {
		detail := ""
		if e.Detail != "" {
			detail = e.Detail + "\n"
		}
		body = fmt.Sprintf("%s\n%sWhat to do: %s\n\nKerbpass, cause: %s\n", x.text, detail, x.hint, e.Cause)
	}
	kind := "text/plain; charset=utf-8"
	if wantHTML {
		kind = "text/html; charset=utf-8"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n", x.status, reason, kind, len(body))
	fmt.Fprintf(&b, "Proxy-Status: kerbpass; error=%s; details=\"%s\"\r\n", x.rfc9209, e.Cause)
	if wantHTML {
		b.WriteString("Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n")
	}
	if e.login {
		b.WriteString("Proxy-Authenticate: Basic realm=\"Kerbpass\"\r\n")
	}
	if close {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	if !noBody {
		b.WriteString(body)
	}
	return b.Bytes()
}

// dialError names why a connection could not be made. up is nil for a direct
// connection.
func dialError(err error, up *Upstream, host string) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return &Error{Cause: CauseInternal, Err: err, busy: true}
	}
	unreachable, unresolved, who := CauseDestinationUnreachable, CauseDestinationUnresolved, host
	if up != nil {
		unreachable, unresolved, who = CauseUpstreamUnreachable, CauseUpstreamUnresolved, up.URL
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		if dns.IsTimeout {
			return fail(CauseTimeout, err, "Looking up the name of %s took too long.", who)
		}
		return fail(unresolved, err, "No address is known for %s.", who)
	}
	if isTimeout(err) {
		if up != nil {
			return fail(unreachable, err, "%s did not accept a connection in time.", who)
		}
		return fail(CauseTimeout, err, "%s did not accept a connection in time.", who)
	}
	return fail(unreachable, err, "%s did not accept a connection.", who)
}

func isTimeout(err error) bool {
	if err == nil {
		return false
	}
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// asError makes an *Error of anything.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if isTimeout(err) {
		return &Error{Cause: CauseTimeout, Err: err}
	}
	return &Error{Cause: CauseInternal, Err: err}
}

func acceptsHTML(accept []byte) bool {
	const want = "text/html"
	for ; len(accept) >= len(want); accept = accept[1:] {
		if is(accept[:len(want)], want) {
			return true
		}
	}
	return false
}
