//go:build windows

package main_test

import (
	"net/http"
	"net/url"
	"os"
	"testing"
)

// TestClientOnWindows is a client of a helper that a test on the Unix side has
// started.
func TestClientOnWindows(t *testing.T) {
	proxy, err := url.Parse(os.Getenv("KERBPASS_TEST_PROXY"))
	if err != nil || proxy.Host == "" {
		t.Skip("run by TestWindowsSameUser")
	}
	c := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
	resp, err := c.Get(os.Getenv("KERBPASS_TEST_URL"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("got %s", resp.Status)
	}
}
