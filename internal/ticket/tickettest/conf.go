package tickettest

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (k *KDC) writeKrb5Conf(t testing.TB, path, addr string) {
	t.Helper()
	// No DNS, no canonicalisation, TCP first: nothing but loopback is asked.
	text := fmt.Sprintf(`[libdefaults]
    default_realm = %[1]s
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    forwardable = true
    ticket_lifetime = 10h
    renew_lifetime = 7d
    default_ccache_name = FILE:%[2]s/cc
    udp_preference_limit = 1
    %[3]s
[realms]
%[4]s[domain_realm]
%[5]s`, k.Realm, k.Dir, strings.Join(k.config.libdefaults, "\n    "), k.realmsSection(addr), k.domainSection())
	writeFile(t, path, text, 0o644)
}

// realmsSection names the servers of the realm, whose KDC is at addr, and of
// those it trusts.
func (k *KDC) realmsSection(addr string) string {
	text := k.realmBlock(addr)
	for _, other := range k.trusted {
		text += other.realmBlock(other.Addr())
	}
	return text
}

func (k *KDC) realmBlock(addr string) string {
	lines := []string{"kdc = " + addr}
	if k.config.primary != "" && addr == k.Addr() {
		primary := net.JoinHostPort(k.config.primary, strconv.Itoa(k.Port))
		// The second is the name that older libraries know.
		lines = append(lines, "primary_kdc = "+primary, "master_kdc = "+primary)
	}
	if k.config.kpasswd {
		lines = append(lines, "kpasswd_server = "+loopback(k.kpasswdPort), "admin_server = "+loopback(k.adminPort))
	}
	return fmt.Sprintf("    %s = {\n        %s\n    }\n", k.Realm, strings.Join(lines, "\n        "))
}

func (k *KDC) domainSection() string {
	realms := map[string]string{"world.test": k.Realm}
	for _, r := range append([]*KDC{k}, k.trusted...) {
		realms[strings.ToLower(r.Realm)] = r.Realm
	}
	text := ""
	for _, domain := range slices.Sorted(maps.Keys(realms)) {
		text += fmt.Sprintf("    .%[1]s = %[2]s\n    %[1]s = %[2]s\n", domain, realms[domain])
	}
	return text + "    localhost = " + k.Realm + "\n"
}

func (k *KDC) writeKDCConf(t testing.TB) {
	t.Helper()
	listen := loopback(k.Port)
	if k.config.primary != "" {
		listen += "," + net.JoinHostPort(k.config.primary, strconv.Itoa(k.Port))
	}
	realm := []string{
		"database_name = " + k.Dir + "/principal",
		"key_stash_file = " + k.Dir + "/stash",
		"acl_file = " + k.Dir + "/kadm5.acl",
		"max_life = 10h",
		"max_renewable_life = 7d",
		"supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal",
		"default_principal_flags = +renewable +forwardable",
	}
	if k.config.kpasswd {
		realm = append(realm, "kpasswd_listen = "+loopback(k.kpasswdPort), "kadmind_listen = "+loopback(k.adminPort))
		writeFile(t, filepath.Join(k.Dir, "kadm5.acl"), "", 0o600) // own passwords need no line
	}
	text := fmt.Sprintf(`[kdcdefaults]
    kdc_listen = %[1]s
    kdc_tcp_listen = %[1]s
[realms]
    %[2]s = {
        %[3]s
    }
[logging]
    kdc = FILE:%[4]s/kdc.log
    admin_server = STDERR
`, listen, k.Realm, strings.Join(realm, "\n        "), k.Dir)
	if otp := k.config.otp; otp != nil {
		secret := filepath.Join(k.Dir, "radius.secret")
		writeFile(t, secret, otp.secret, 0o600)
		text += fmt.Sprintf(`[otp]
    DEFAULT = {
        server = %s
        secret = %s
        strip_realm = true
    }
`, otp.addr, secret)
	}
	writeFile(t, filepath.Join(k.Dir, "kdc.conf"), text, 0o600)
}

func writeFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
