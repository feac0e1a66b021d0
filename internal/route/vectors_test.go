package route_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"kerbpass/internal/route"
)

// target does, for the vectors only, what the request-target parser does in the
// proxy: it takes the host and the port out of a URL or an authority. It never
// repairs anything, so that odd bytes reach ParseHost.
func target(s string) (route.Host, uint16, error) {
	port := uint16(80)
	for prefix, p := range map[string]uint16{"http://": 80, "https://": 443} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			s, port = rest, p
		}
	}
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		s = s[:i]
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 && !strings.Contains(s, `\`) {
		s = s[i+1:]
	}
	host, digits, hasPort := s, "", false
	if rest, ok := strings.CutPrefix(s, "["); ok {
		inner, after, closed := strings.Cut(rest, "]")
		if !closed || !strings.Contains(inner, ":") {
			return route.Host{}, 0, errors.New("bad brackets")
		}
		host = inner
		if after != "" {
			if after[0] != ':' {
				return route.Host{}, 0, errors.New("bad brackets")
			}
			digits, hasPort = after[1:], true
		}
	} else {
		host, digits, hasPort = strings.Cut(s, ":")
	}
	if hasPort && digits != "" {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 {
			return route.Host{}, 0, fmt.Errorf("bad port %q", digits)
		}
		port = uint16(n)
	}
	h, err := route.ParseHost(host)
	return h, port, err
}

func mustHost(t testing.TB, s string) route.Host {
	t.Helper()
	h, err := route.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustExact(t testing.TB, list string) *route.Exact {
	t.Helper()
	e, bad := route.ParseExact(route.SplitList(list))
	if len(bad) > 0 {
		t.Fatalf("ParseExact(%q): %v", list, &bad[0])
	}
	return e
}

func mustSuffix(t testing.TB, list string) *route.Suffix {
	t.Helper()
	s, bad := route.ParseSuffix(list)
	if len(bad) > 0 {
		t.Fatalf("ParseSuffix(%q): %v", list, &bad[0])
	}
	return s
}
