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

// ask sends one request to the realm's KDCs, in order, until one answers:
// TCP first, because a ticket with a group list does not fit a datagram, UDP
// where nothing listens on TCP. It ends with ctx at the latest.
func ask(ctx context.Context, c conf, realm string, req []byte) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, perRequest)
	defer cancel()
	addrs, err := findKDCs(within, c, realm)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ticket.ErrKDCUnreachable, err)
	}
	var errs []error
	for _, addr := range addrs {
		reply, err := askOne(within, "tcp", addr, req)
		if err != nil && isDial(err) && within.Err() == nil {
			var udpErr error
			if reply, udpErr = askOne(within, "udp", addr, req); udpErr == nil {
				err = nil
			}
		}
		if err == nil {
			return reply, nil
		}
		errs = append(errs, err)
		if within.Err() != nil {
			break
		}
	}
	// The caller's own reason to give up stays visible next to the network's.
	return nil, fmt.Errorf("realm %s: %w: %w", realm, ticket.ErrKDCUnreachable, errors.Join(append(errs, ctx.Err())...))
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// findKDCs takes the addresses from krb5.conf or else from DNS
// (RFC 4120 section 7.2.3.2).
func findKDCs(ctx context.Context, c conf, realm string) ([]string, error) {
	if addrs := c.kdcs(realm); len(addrs) > 0 {
		return addrs, nil
	}
	if !c.dnsKDC() {
		return nil, fmt.Errorf("krb5.conf names no KDC for realm %s; add one under [realms]", realm)
	}
	ctx, cancel := context.WithTimeout(ctx, perKDC)
	defer cancel()
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "kerberos", "tcp", realm)
	if err != nil {
		return nil, fmt.Errorf("no KDC for realm %s in krb5.conf, and none in DNS: %w", realm, err)
	}
	var addrs []string
	for _, r := range records[:min(len(records), maxKDCs)] {
		if host := strings.TrimSuffix(r.Target, "."); host != "" {
			addrs = append(addrs, net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("DNS says that realm %s has no KDC", realm)
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
