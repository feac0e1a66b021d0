package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
)

const certHint = "If that authority is your company's, programs with an authority list of their own must be told of it: kerbpass apps cert says how for each. If it is not, do not go on."

// httpsTarget reads HOST or HOST:PORT, also as an https address.
func httpsTarget(s string) (string, error) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "https://"), "/")
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), "443"
	}
	h, err := route.ParseHost(host)
	if err != nil {
		return "", failf(exitUsage, "Give it as HOST or HOST:PORT.", "%q is not a host.", s)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "", failf(exitUsage, "Give it as HOST or HOST:PORT.", "%q is not a port.", port)
	}
	return net.JoinHostPort(h.String(), port), nil
}

// checkCertificate asks who vouches for a server of the person's choice, as seen
// through Kerbpass: where the company re-signs https, that is the company.
// Nothing is sent but the beginning of a TLS connection.
func (x *examination) checkCertificate(ctx context.Context) doctor.Finding {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", x.through)
	if err != nil {
		return broken(proxy.CauseInternal, "", "%s does not answer (%v).", x.through, err)
	}
	defer conn.Close()
	resp, err := talk(ctx, conn, fmt.Sprintf("CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", x.https))
	if err != nil {
		return broken(proxy.CauseTimeout, "", "A tunnel to %s got no answer (%v).", x.https, err)
	}
	if cause, kerbpass := kerbpassCause(resp.Header); kerbpass {
		text, hint, _ := cause.Explain()
		return broken(cause, hint, "There is no tunnel to %s. %s", x.https, text)
	}
	if resp.StatusCode != http.StatusOK {
		return broken(proxy.CausePolicy, "Ask the proxy's administrator, or name another host.", "The corporate proxy answered %d to a tunnel to %s.", resp.StatusCode, x.https)
	}
	host, _, _ := net.SplitHostPort(x.https)
	// Whom the server names is what is asked here; it is verified below.
	client := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err := client.HandshakeContext(ctx); err != nil {
		return broken(proxy.CauseUpstreamTLS, "Try another host, or ask the proxy's administrator.", "No TLS with %s: %v.", x.https, err)
	}
	chain := client.ConnectionState().PeerCertificates
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	verified, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: between})
	if err == nil {
		chain = verified[0]
	}
	var names []string
	for _, c := range chain {
		names = append(names, certName(c))
	}
	if last := chain[len(chain)-1]; err != nil && last.Issuer.String() != last.Subject.String() {
		names = append(names, nameOf(last.Issuer.CommonName, last.Issuer.String())+" (which it does not show)")
	}
	x.learn(func(f *facts) { f.signers = names })
	seen := fmt.Sprintf("%s shows the certificate of %s.", x.https, strings.Join(names, ", signed by "))
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return doctor.Finding{State: doctor.OK, Seen: seen + " This system trusts it.", Action: certHint}
	case errors.As(err, &unknown):
		return noted(proxy.CauseUpstreamTLS, "Ask your company for its certificate authority, and have this system trust it. "+certHint, "%s This system does not know that authority.", seen)
	}
	return noted(proxy.CauseUpstreamTLS, "Do not go on before somebody has explained that.", "%s This system does not accept it: %v.", seen, err)
}

func certName(c *x509.Certificate) string { return nameOf(c.Subject.CommonName, c.Subject.String()) }

func nameOf(common, whole string) string {
	if common != "" {
		return common
	}
	return whole
}
