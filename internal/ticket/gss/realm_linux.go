//go:build linux && !nogss

package gss

import (
	"strings"
	"unsafe"
)

// realmCalls are the functions that know which realm a host belongs to.
type realmCalls struct {
	hostRealms    func(ctx handle, host string, out *handle) int32 // MIT, as the next three
	freeRealms    func(ctx, realms handle) int32
	defaultRealm  func(ctx handle, out *handle) int32
	freeRealm     func(ctx, realm handle)
	confString    func(ctx, section handle, first, second string, end handle) handle // Heimdal
	parseName     func(ctx handle, name string, out *handle) int32
	getProfile    func(ctx handle, out *handle) int32 // MIT, as the next three
	profileString func(profile handle, first, second string, third, fallback handle, out *handle) int32
	freeProfile   func(profile handle)
	freeValue     func(value handle)
}

func (c *realmCalls) bind(b *binder, krb5 uintptr, mit bool) {
	b.bind(krb5, &c.parseName, "krb5_parse_name")
	if !mit {
		// Variadic; on the processors of this build that makes no difference.
		b.bind(krb5, &c.confString, "krb5_config_get_string")
		return
	}
	b.bind(krb5, &c.hostRealms, "krb5_get_host_realm")
	b.bind(krb5, &c.freeRealms, "krb5_free_host_realm")
	b.bind(krb5, &c.defaultRealm, "krb5_get_default_realm")
	b.bind(krb5, &c.freeRealm, "krb5_free_default_realm")
	b.bind(krb5, &c.getProfile, "krb5_get_profile")
	b.bind(krb5, &c.profileString, "profile_get_string")
	b.bind(krb5, &c.freeProfile, "profile_release")
	b.bind(krb5, &c.freeValue, "profile_release_string")
}

// realmOfService is the realm that spn names, or that krb5.conf gives its
// host; "" where neither says.
func (l *library) realmOfService(ctx handle, spn string) string {
	if realm := realmOf(spn); realm != "" {
		return realm
	}
	_, host, _ := strings.Cut(spn, "/")
	host, _, _ = strings.Cut(host, "/")
	if host == "" {
		return ""
	}
	return l.mappedRealm(ctx, strings.ToLower(host))
}

// mappedRealm looks host up in [domain_realm]. Heimdal's own look-up would go
// on to the DNS, which can block for seconds.
func (l *library) mappedRealm(ctx handle, host string) string {
	if l.hostRealms == nil {
		for name := host; name != ""; name = parentDomain(name) {
			if realm := goString(l.confString(ctx, nil, "domain_realm", name, nil)); realm != "" {
				return realm
			}
		}
		return ""
	}
	var list handle
	if l.hostRealms(ctx, host, &list) != 0 || list == nil {
		return ""
	}
	defer l.freeRealms(ctx, list)
	return goString(*(*handle)(list)) // "" stands for "ask for a referral"
}

// parentDomain is the next less special name that [domain_realm] may list:
// a.b, .b, b.
func parentDomain(name string) string {
	if parent, ok := strings.CutPrefix(name, "."); ok {
		return parent
	}
	if i := strings.IndexByte(name, '.'); i >= 0 {
		return name[i:]
	}
	return ""
}

// defaultRealmName is the default realm that krb5.conf names, or "".
func (l *library) defaultRealmName(ctx handle) string {
	if l.defaultRealm == nil {
		return goString(l.confString(ctx, nil, "libdefaults", "default_realm", nil))
	}
	var realm handle
	if l.defaultRealm(ctx, &realm) != 0 {
		return ""
	}
	defer l.freeRealm(ctx, realm)
	return goString(realm)
}

// hasLibdefault reports whether krb5.conf sets option for all realms or for
// this one.
func (l *library) hasLibdefault(ctx handle, realm, option string) bool {
	var profile handle
	if l.getProfile(ctx, &profile) != 0 {
		return false
	}
	defer l.freeProfile(profile)
	name := append([]byte(option), 0)
	var value handle
	for _, path := range []struct {
		second string
		third  handle
	}{{option, nil}, {realm, handle(unsafe.SliceData(name))}} {
		if l.profileString(profile, "libdefaults", path.second, path.third, nil, &value) == 0 && value != nil {
			l.freeValue(value)
			return true
		}
	}
	return false
}
