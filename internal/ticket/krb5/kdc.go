package krb5

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"kerbpass/internal/ticket"
)

const (
	maxKDCs    = 8
	maxReply   = 1 << 20 // a ticket has at most 64 KB
	perKDC     = 5 * time.Second
	perRequest = 15 * time.Second // all KDCs together
)

// ask sends one request to the realm's KDCs, in order, until one answers, and
// tells which. It ends with ctx at the latest.
func ask(ctx context.Context, c conf, realm string, req []byte) (reply []byte, kdc string, err error) {
	addrs, err := findKDCs(ctx, c, realm)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ticket.ErrKDCUnreachable, err)
	}
	return send(ctx, addrs, req, func(error) bool { return true })
}

// askOnce is ask for a request that must not be made twice, on servers that
// are known: the next one is tried only if the one before cannot have seen it.
func askOnce(ctx context.Context, addrs []string, req []byte) (reply []byte, addr string, err error) {
	return send(ctx, addrs, req, isDial)
}

// send tries one server after the other while goOn agrees with what came of it:
// by TCP first, because a ticket with a group list does not fit a datagram, by
// UDP where nothing listens on TCP.
func send(ctx context.Context, addrs []string, req []byte, goOn func(error) bool) (reply []byte, addr string, err error) {
	within, cancel := context.WithTimeout(ctx, perRequest)
	defer cancel()
	var errs []error
	for _, addr := range addrs {
		for _, network := range []string{"tcp", "udp"} {
			if reply, err = askOne(within, network, addr, req); err == nil {
				return reply, addr, nil
			}
			errs = append(errs, err)
			if !isDial(err) || within.Err() != nil {
				break
			}
		}
		if within.Err() != nil || !goOn(err) {
			break
		}
	}
	// The caller's own reason to give up stays visible next to the network's.
	return nil, "", fmt.Errorf("%w: %w", ticket.ErrKDCUnreachable, errors.Join(append(errs, ctx.Err())...))
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// findKDCs takes the addresses from krb5.conf or else from DNS.
func findKDCs(ctx context.Context, c conf, realm string) ([]string, error) {
	if addrs := c.kdcs(realm); len(addrs) > 0 {
		return addrs, nil
	}
	if !c.dnsKDC() {
		return nil, fmt.Errorf("krb5.conf names no KDC for realm %s; add one under [realms]", realm)
	}
	return lookup(ctx, "kerberos", realm)
}

// findKpasswd is findKDCs for the servers that change passwords.
func findKpasswd(ctx context.Context, c conf, realm string) ([]string, error) {
	if addrs := c.kpasswd(realm); len(addrs) > 0 {
		return addrs, nil
	}
	if !c.dnsKDC() {
		return nil, fmt.Errorf("krb5.conf names no kpasswd_server for realm %s; add one under [realms]", realm)
	}
	return lookup(ctx, "kpasswd", realm)
}

// lookup finds a realm's servers in DNS (RFC 4120 section 7.2.3.2).
func lookup(ctx context.Context, service, realm string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, perKDC)
	defer cancel()
	_, records, err := net.DefaultResolver.LookupSRV(ctx, service, "tcp", realm)
	if err != nil {
		return nil, fmt.Errorf("no %s server for realm %s in krb5.conf, and none in DNS: %w", service, realm, err)
	}
	var addrs []string
	for _, r := range records[:min(len(records), maxKDCs)] {
		if host := strings.TrimSuffix(r.Target, "."); host != "" {
			addrs = append(addrs, net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("DNS says that realm %s has no %s server", realm, service)
	}
	return addrs, nil
}

// askOne makes one exchange: framed by a length over TCP (RFC 4120 section
// 7.2.2), a bare datagram over UDP.
func askOne(ctx context.Context, network, addr string, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, perKDC)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "udp" {
		if _, err := conn.Write(req); err != nil {
			return nil, err
		}
		buf := make([]byte, 64<<10)
		n, err := conn.Read(buf)
		return buf[:n], err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fmt.Errorf("KDC %s: %w", addr, err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxReply {
		return nil, fmt.Errorf("KDC %s announces a reply of %d bytes", addr, n)
	}
	reply := make([]byte, n)
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, fmt.Errorf("KDC %s: %w", addr, err)
	}
	return reply, nil
}
