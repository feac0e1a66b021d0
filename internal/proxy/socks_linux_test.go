//go:build linux

package proxy_test

import (
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// A SOCKS server that is not ours.
func TestHopsThroughMicrosocks(t *testing.T) {
	pt.Leaks(t)
	bin, port := testenv.Tool(t, "microsocks"), testenv.FreePort(t)
	cmd := exec.Command(bin, "-i", "127.0.0.1", "-p", strconv.Itoa(port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	socks := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", socks); err == nil {
			c.Close()
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	origin := pt.Answering(t, pt.OK)
	_, addr := pt.Start(t, proxy.Config{Router: over("", socksAt(socks)), Auth: &pt.Auth{}})
	_, originPort, _ := net.SplitHostPort(origin.Addr)
	for _, host := range []string{"127.0.0.1", "localhost"} { // an address, and a name for it to resolve
		target := host + ":" + originPort
		if resp, body := pt.Dial(t, addr).Get("http://" + target + "/"); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("GET at %s: got %d %s", host, resp.StatusCode, body)
		}
		if resp, body, err := pt.Dial(t, addr).Tunnel(target, "GET /in HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil || body != "ok" {
			t.Errorf("CONNECT to %s: got %v, %v", host, resp, err)
		}
	}
	dead := deadAddr(t)
	if resp, body := pt.Dial(t, addr).Get("http://" + dead + "/"); pt.Cause(resp) != "destination_unreachable" || !strings.Contains(body, "connection refused") {
		t.Errorf("a port where nobody listens: got %d %s", resp.StatusCode, body)
	}
	if n := len(origin.Heads()); n != 4 {
		t.Errorf("the origin saw %d requests, want 4", n)
	}
}
