package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Client calls the running helper. It is safe for concurrent use and keeps
// nothing open between calls.
type Client struct {
	http *http.Client
}

// NewClient returns a client for the socket at path. allow decides whether the
// process that listens there may be talked to; without one every call fails.
func NewClient(path string, allow func(net.Conn) error) *Client {
	return &Client{&http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxHeader,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if allow == nil {
					return nil, errors.New("control client: no peer check")
				}
				ctx, cancel := context.WithTimeout(ctx, headerTimeout)
				defer cancel()
				c, err := dial(ctx, path)
				if err != nil {
					return nil, err
				}
				if err := allow(c); err != nil {
					c.Close()
					return nil, fmt.Errorf("%s is served by someone else: %w", path, err)
				}
				return c, nil
			},
		},
		// The helper never redirects; whatever does is not followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Get asks for path, which starts with a slash, and decodes the answer into
// out; a nil out discards it. Errors are [ErrNotRunning], [*RemoteError], or
// what went wrong on the way.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, out)
}

// Post sends in, encoded, to path. Answers and errors are those of Get.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("control call %s: %w", path, err)
	}
	return c.do(ctx, http.MethodPost, path, bytes.NewReader(b), out)
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+hostName+path, body)
	if err != nil {
		return fmt.Errorf("control call: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var outer *url.Error // its text repeats a URL that exists nowhere
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return fmt.Errorf("control call %s: %w", path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil:
		return fmt.Errorf("control call %s: answer: %w", path, err)
	case len(b) > maxResponse:
		return fmt.Errorf("control call %s: answer of more than %d bytes", path, maxResponse)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return remoteError(resp.StatusCode, b)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("control call %s: answer: %w", path, err)
	}
	return nil
}

func remoteError(status int, body []byte) error {
	var e errorBody
	if json.Unmarshal(body, &e) != nil || e.Error == "" {
		e = errorBody{Error: fmt.Sprintf("the helper answers %d %s", status, http.StatusText(status))}
	}
	return &RemoteError{Status: status, Message: e.Error, Hint: e.Hint}
}
