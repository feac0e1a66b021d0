package pac

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	fetchLimit   = 10 * time.Second
	checkFile    = 2 * time.Second // a file is looked at no more often than that
	checkUsually = 5 * time.Minute // a server that says nothing about it is asked again
	checkSoonest = 5 * time.Second
	checkLatest  = time.Hour
)

// fetched is one version of a script, with what tells it from others.
type fetched struct {
	place  string
	source string
	etag   string
	date   string // Last-Modified as the server wrote it
	size   int64  // of a file
	mod    time.Time
	fresh  time.Duration // it need not be looked at again before
}

// errSame: what is there is what was there.
var errSame = errors.New("not changed")

// A fetcher gets scripts, never through a proxy.
type fetcher struct{ client *http.Client }

func newFetcher(dial func(ctx context.Context, network, addr string) (net.Conn, error), cfg *tls.Config) *fetcher {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	if cfg != nil {
		cfg = cfg.Clone()
	}
	return &fetcher{&http.Client{
		// No Proxy: its own way must not lead over what it is to tell.
		Transport: &http.Transport{DialContext: dial, TLSClientConfig: cfg, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch {
			case len(via) > 5:
				return errors.New("it is redirected too often")
			case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
				return errors.New("it is redirected from https to http")
			}
			return nil
		},
	}}
}

// fetch gets the script at place; errSame says that it is the one of old.
func (f *fetcher) fetch(ctx context.Context, place string, old *fetched) (*fetched, error) {
	if old != nil && old.place != place {
		old = nil
	}
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return readScript(place, old)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", place, nil)
	if err != nil {
		return nil, errors.New("its address is not understood")
	}
	req.Header.Set("User-Agent", "Kerbpass")
	req.Header.Set("Accept", "application/x-ns-proxy-autoconfig, */*;q=0.5")
	if old != nil && old.etag != "" {
		req.Header.Set("If-None-Match", old.etag)
	}
	if old != nil && old.date != "" {
		req.Header.Set("If-Modified-Since", old.date)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is known, and may be long
		}
		if ctx.Err() != nil {
			err = errors.New("the server did not answer in time")
		}
		return nil, err
	}
	defer resp.Body.Close()
	fresh := freshness(resp.Header.Get("Cache-Control"))
	if resp.StatusCode == http.StatusNotModified && old != nil {
		old.fresh = fresh
		return old, errSame
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxScript+1))
	if err != nil {
		return nil, fmt.Errorf("its transfer broke off: %w", err)
	}
	if len(body) > maxScript {
		return nil, fmt.Errorf("it is larger than %d bytes", maxScript)
	}
	_, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	got := &fetched{place: place, source: decode(body, params["charset"]), etag: resp.Header.Get("ETag"), date: resp.Header.Get("Last-Modified"), fresh: fresh}
	if old != nil && old.source == got.source {
		return got, errSame
	}
	return got, nil
}

// freshness is for how long an answer with that Cache-Control may do.
func freshness(control string) time.Duration {
	for part := range strings.SplitSeq(strings.ToLower(control), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "no-cache", "no-store":
			return checkSoonest
		case "max-age":
			if n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				return min(max(time.Duration(n)*time.Second, checkSoonest), checkLatest)
			}
		}
	}
	return checkUsually
}

func readScript(place string, old *fetched) (*fetched, error) {
	path, err := filePath(place)
	if err != nil {
		return nil, err
	}
	// A FIFO or a device must not block, so look before opening.
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, reason(err)
	case !st.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case st.Size() > maxScript:
		return nil, fmt.Errorf("it is larger than %d bytes", maxScript)
	case old != nil && st.Size() == old.size && st.ModTime().Equal(old.mod):
		return old, errSame
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, reason(err)
	}
	return &fetched{place: place, source: decode(body, ""), size: st.Size(), mod: st.ModTime(), fresh: checkFile}, nil
}

func reason(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// filePath makes a path of a file: URL, or of a path.
func filePath(place string) (string, error) {
	scheme, _, ok := strings.Cut(place, "://")
	if !ok || !strings.EqualFold(scheme, "file") {
		return filepath.Abs(place)
	}
	u, err := url.Parse(place)
	if err != nil {
		return "", errors.New("its address is not understood")
	}
	path := u.Path
	switch {
	case runtime.GOOS == "windows" && u.Host != "" && u.Host != "localhost":
		path = "//" + u.Host + path
	case runtime.GOOS == "windows":
		path = strings.TrimPrefix(path, "/")
	case u.Host != "" && u.Host != "localhost":
		return "", errors.New("its address names another computer")
	}
	return filepath.FromSlash(path), nil
}

// decode makes text of what came: by the byte order mark, else by the charset
// the server named, else UTF-8 where it is, and Latin-1 where it is not.
func decode(b []byte, charset string) string {
	switch {
	case len(b) >= 3 && string(b[:3]) == "\xef\xbb\xbf":
		return strings.ToValidUTF8(string(b[3:]), "\ufffd")
	case len(b) >= 2 && string(b[:2]) == "\xff\xfe":
		return fromUTF16(b[2:], 1)
	case len(b) >= 2 && string(b[:2]) == "\xfe\xff":
		return fromUTF16(b[2:], 0)
	}
	switch strings.ToLower(charset) {
	case "utf-16le":
		return fromUTF16(b, 1)
	case "utf-16be", "utf-16":
		return fromUTF16(b, 0)
	case "iso-8859-1", "iso8859-1", "latin1", "latin-1", "windows-1252":
		return fromLatin1(b)
	case "utf-8", "utf8":
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	if utf8.Valid(b) {
		return string(b)
	}
	return fromLatin1(b)
}

// fromUTF16 reads units whose high byte is the first (0) or the second (1).
func fromUTF16(b []byte, high int) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i+high])<<8 | uint16(b[2*i+1-high])
	}
	return string(utf16.Decode(units))
}

func fromLatin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}
