package ticket

import (
	"strconv"
	"strings"
	"time"
)

// CloudRealm is the realm of the TGTs that Microsoft Entra puts beside, or in
// place of, those of a company's own KDC. They open no company proxy.
const CloudRealm = "KERBEROS.MICROSOFTONLINE.COM"

// Flags are ticket flags with the bit numbers of RFC 4120 section 5.3, bit 0
// the most significant: forwardable is 0x40000000.
type Flags uint32

// Flags that this program asks about.
const (
	FlagForwardable Flags = 1 << (31 - 1)
	FlagInvalid     Flags = 1 << (31 - 7)
	FlagRenewable   Flags = 1 << (31 - 8)
	FlagInitial     Flags = 1 << (31 - 9)
)

var flagNames = [32]string{
	1: "forwardable", 2: "forwarded", 3: "proxiable", 4: "proxy", 5: "may-postdate", 6: "postdated", 7: "invalid",
	8: "renewable", 9: "initial", 10: "pre-authent", 11: "hw-authent", 12: "transited-policy-checked", 13: "ok-as-delegate",
	15: "enc-pa-rep", 16: "anonymous", // RFC 6806 section 11, RFC 8062
}

// Names returns the names of the flags that are set, as RFC 4120 spells them.
// Bits without a name are left out.
func (f Flags) Names() []string {
	names := []string{}
	for i, name := range flagNames {
		if name != "" && f&(1<<(31-i)) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// EncType is an encryption type number (RFC 3961 section 8, RFC 8009, RFC
// 4757); 0 is unknown.
type EncType int32

var encTypes = map[EncType]string{
	1: "des-cbc-crc", 3: "des-cbc-md5", 16: "des3-cbc-sha1", 17: "aes128-cts-hmac-sha1-96", 18: "aes256-cts-hmac-sha1-96",
	19: "aes128-cts-hmac-sha256-128", 20: "aes256-cts-hmac-sha384-192", 23: "rc4-hmac", 24: "rc4-hmac-exp",
	25: "camellia128-cts-cmac", 26: "camellia256-cts-cmac",
}

// String is the name that IANA lists, "etype 99" for one it does not, "" for 0.
func (e EncType) String() string {
	if name := encTypes[e]; name != "" || e == 0 {
		return name
	}
	return "etype " + strconv.Itoa(int(e))
}

// Choose picks the cache to use for a service in realm, "" where that is not
// known, and returns its index, or -1 where none has a TGT. A cache whose
// principal is of that realm comes before all others, even with an expired TGT:
// another realm's ticket in its place would only hide what is wrong. Then a
// valid TGT counts, then being the default, then lasting longer. A cache that
// belongs to [CloudRealm] is never taken.
func Choose(caches []Cache, realm string, now time.Time) int {
	best, score := -1, 0
	for i, c := range caches {
		if c.Expires.IsZero() || strings.EqualFold(c.Realm, CloudRealm) {
			continue
		}
		s := 1
		if c.Default {
			s += 1
		}
		if c.Expires.After(now) {
			s += 2
		}
		if realm != "" && c.Realm == realm {
			s += 4
		}
		if s > score || s == score && c.Expires.After(caches[best].Expires) {
			best, score = i, s
		}
	}
	return best
}

// Collection returns the name of the collection that a cache belongs to, or
// the name itself where the type has none: DIR::/tmp/d/tkt lies in DIR:/tmp/d,
// KCM:1000:5 in KCM:, KEYRING:persistent:1000:abc in KEYRING:persistent:1000.
func Collection(cache string) string {
	kind, rest, _ := strings.Cut(cache, ":")
	switch kind {
	case "DIR":
		if file, single := strings.CutPrefix(rest, ":"); single {
			return "DIR:" + strings.TrimSuffix(file[:strings.LastIndexByte(file, '/')+1], "/")
		}
	case "KCM", "API":
		return kind + ":"
	case "KEYRING":
		if parts := strings.Split(rest, ":"); len(parts) > 2 {
			return "KEYRING:" + parts[0] + ":" + parts[1]
		}
	}
	return cache
}
