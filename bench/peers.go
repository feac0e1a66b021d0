package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A class says what a row of the tables stands for.
type class string

const (
	limit class = "limit" // bounds what is possible; no authenticating proxy
	peer  class = "peer"  // what somebody could use instead
	ours  class = "ours"
)

// The kinds of upstream: what it demands.
const (
	authNone      = "none"
	authBasic     = "basic"
	authNTLM      = "ntlm"
	authNegotiate = "negotiate" // once per connection
	authRequest   = "request"   // Negotiate with every request
)

// A row is a program in the comparison. argv, env and the files' texts hold
// {placeholders}, see place. Without argv the client goes to the upstream itself.
type row struct {
	name  string
	class class
	auth  string
	argv  []string
	env   []string
	files map[string]string
	skip  []string // tests that it has no part in
}

// takesPart reports whether a row is measured by a test.
func (w row) takesPart(test string) bool {
	return !slices.Contains(w.skip, test) && (test != "request" || w.auth == authNegotiate)
}

const (
	direct      = "direct"
	bareRelay   = "relay"
	haproxyTCP  = "haproxy tcp"
	haproxyHTTP = "haproxy http"
	kerbpass    = "kerbpass"
	kerbpassGo  = "kerbpass nogss"
)

var kerberosEnv = []string{"KRB5_CONFIG={krb5conf}", "KRB5CCNAME=FILE:{cache}"}

// debianRows are the limits and peers, every one set up as fast as its manual
// allows: no log, no cache, no limit below what the tests need.
var debianRows = []row{
	{name: direct, class: limit, auth: authNone, skip: []string{"rest"}},
	{name: bareRelay, class: limit, auth: authNone, argv: []string{"{self}", "relay", "-listen", "127.0.0.1:{port}", "-to", "127.0.0.1:{upstream}"}},
	{name: haproxyTCP, class: limit, auth: authNone, argv: []string{"haproxy", "-db", "-f", "{dir}/conf"}, files: map[string]string{"conf": `global
  maxconn 8000
  maxpipes 500
  tune.pipesize 1048576
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen l
  bind 127.0.0.1:{port}
  option splice-request
  option splice-response
  server u 127.0.0.1:{upstream}
`}},
	{name: haproxyHTTP, class: limit, auth: authBasic, argv: []string{"haproxy", "-db", "-f", "{dir}/conf"}, files: map[string]string{"conf": `global
  maxconn 8000
  maxpipes 500
  tune.pipesize 1048576
defaults
  mode http
  option splice-request
  option splice-response
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-request 10s
listen l
  bind 127.0.0.1:{port}
  http-reuse always
  http-request set-header Proxy-Authorization "{basic}"
  server u 127.0.0.1:{upstream}
`}},
	{name: "squid", class: peer, auth: authNegotiate, argv: []string{"squid", "-N", "-n", "bench{port}", "-f", "{dir}/conf"}, env: kerberosEnv, files: map[string]string{"conf": `http_port 127.0.0.1:{port}
pid_filename {dir}/pid
cache_log {dir}/cache.log
access_log none
cache_store_log none
cache deny all
cache_mem 8 MB
max_filedescriptors 65536
http_access allow all
never_direct allow all
nonhierarchical_direct off
shutdown_lifetime 0 seconds
netdb_filename none
pinger_enable off
coredump_dir {dir}
unlinkd_program /bin/true
client_idle_pconn_timeout 10 minutes
dns_nameservers 127.0.0.1
visible_hostname bench
cache_peer localhost parent {upstream} 0 no-query no-digest no-netdb-exchange default connect-fail-limit=1000000 login=NEGOTIATE auth-no-keytab
`}},
	{name: "cntlm", class: peer, auth: authNTLM, argv: []string{"cntlm", "-f", "-c", "{dir}/conf"}, files: map[string]string{"conf": `Username {user}
Domain BENCH
Password {password}
Proxy 127.0.0.1:{upstream}
Listen 127.0.0.1:{port}
NoProxy localhost
`}},
	{name: "tinyproxy", class: peer, auth: authBasic, argv: []string{"tinyproxy", "-d", "-c", "{dir}/conf"}, files: map[string]string{"conf": `Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 20000
LogLevel Critical
Upstream http {user}:{password}@localhost:{upstream}
`}},
}

// ourRow is one build of Kerbpass, as a user would run it without a desktop.
func ourRow(name, program string) row {
	return row{name: name, class: ours, auth: authNegotiate,
		argv: []string{program, "--config", "{dir}/config.toml", "--log-level", "error", "run",
			"--listen", "127.0.0.1:{port}", "--upstream", "http://localhost:{upstream}"},
		env: append(slices.Clip(kerberosEnv), "HOME={dir}", "XDG_RUNTIME_DIR={dir}", "XDG_CONFIG_HOME={dir}", "XDG_STATE_HOME={dir}"),
	}
}

// find returns the path of a program, in the sbin folders too, or "".
func find(program string) string {
	if p, err := exec.LookPath(program); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if st, err := os.Stat(dir + program); err == nil && st.Mode()&0o111 != 0 {
			return dir + program
		}
	}
	return ""
}

// place maps placeholders to values.
type place map[string]string

// fill replaces the placeholders in a text. One that has no value stays.
func (p place) fill(text string) string {
	var pairs []string
	for name, value := range p {
		pairs = append(pairs, "{"+name+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (p place) fillAll(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = p.fill(t)
	}
	return out
}
