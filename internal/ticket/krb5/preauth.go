package krb5

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/ticket"
)

// maxIterations bounds the work a KDC can ask for to make a key of a password:
// a second or so. KDCs ask for 4096, or 32768 with SHA-2.
const maxIterations = 1 << 20

const maxSalt = 4096

// A hint is what a KDC says about a client's key.
type hint struct {
	etype  int32
	salt   string
	params []byte // nil: the encryption type's own
}

// readOffer reads the METHOD-DATA of a KDC that wants proof, and finds an
// encrypted time stamp among what it takes.
func readOffer(data []byte) (offered types.PADataSequence, err error) {
	defer recovered(&err)
	if err := offered.Unmarshal(data); err != nil {
		return nil, fmt.Errorf("the KDC does not say which proof it wants: %v", err)
	}
	if offered.Contains(patype.PA_ENC_TIMESTAMP) {
		return offered, nil
	}
	var names []string
	for _, pa := range offered {
		if name := methods[pa.PADataType]; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if names == nil {
		names = []string{"a proof that is not known here"}
	}
	return nil, fmt.Errorf("the KDC takes no plain password; it wants %s: %w", strings.Join(names, " or "), errors.ErrUnsupported)
}

// methods names what a KDC may want and this backend cannot give.
var methods = map[int32]string{
	patype.PA_PK_AS_REQ: "a smart card or certificate (PKINIT)", patype.PA_PK_AS_REQ_OLD: "a smart card or certificate (PKINIT)",
	patype.PA_SAM_CHALLENGE2: "an answer to a challenge (SAM)", patype.PA_OTP_CHALLENGE: "a one-time password (OTP)",
	patype.PA_FX_FAST: "armour (FAST)", patype.PA_ENCRYPTED_CHALLENGE: "armour (FAST)", paSPAKE: "SPAKE",
}

const paSPAKE = 151 // RFC 9588

// cookies are to be sent back as they came (RFC 6113 section 5.2).
func cookies(offered types.PADataSequence) types.PADataSequence {
	return slices.DeleteFunc(slices.Clone(offered), func(pa types.PAData) bool { return pa.PADataType != patype.PA_FX_COOKIE })
}

// choose finds the first of etypes that the KDC has a key of, with what makes
// it (RFC 4120 section 5.2.7.5).
func (in *login) choose(offered types.PADataSequence, etypes []int32) (h hint, err error) {
	defer recovered(&err)
	standard := in.client.wire().GetSalt(in.client.realm)
	i := slices.IndexFunc(offered, func(pa types.PAData) bool { return pa.PADataType == patype.PA_ETYPE_INFO2 })
	if i < 0 {
		h = hint{etype: etypes[0], salt: standard}
		if !slices.Contains(in.etypes, h.etype) {
			return hint{}, fmt.Errorf("the KDC answers with encryption type %s, which was not offered", ticket.EncType(h.etype))
		}
		return h, nil
	}
	var known types.ETypeInfo2
	if err := known.Unmarshal(offered[i].PADataValue); err != nil {
		return hint{}, fmt.Errorf("the KDC does not say how to make a key: %v", err)
	}
	for _, etype := range etypes {
		for _, k := range known {
			if k.EType != etype || !slices.Contains(in.etypes, etype) {
				continue
			}
			if k.Salt == "" {
				k.Salt = standard
			}
			return hint{etype, k.Salt, k.S2KParams}, nil
		}
	}
	return hint{}, fmt.Errorf("the KDC has no key of an encryption type that is allowed here: %w", errors.ErrUnsupported)
}

// stringToKey makes a key of a password (RFC 3962, RFC 8009, RFC 4757). It is
// our own because the library's takes a string, which cannot be wiped, trusts
// the KDC's count of iterations, and gets letters outside ASCII wrong with RC4.
func stringToKey(ctx context.Context, h hint, password []byte) (k longTermKey, err error) {
	defer recovered(&err)
	et, err := crypto.GetEtype(h.etype)
	if err != nil {
		return k, err
	}
	k.KeyType = h.etype
	if h.etype == etypeID.RC4_HMAC {
		b := utf16LE(password)
		defer clear(b)
		k.KeyValue = et.RandomToKey(b) // MD4
		return k, nil
	}
	s, known := slow[h.etype]
	if !known {
		return k, fmt.Errorf("no key of a password for encryption type %s: %w", ticket.EncType(h.etype), errors.ErrUnsupported)
	}
	n := s.iterations
	if h.params != nil {
		if len(h.params) != 4 {
			return k, fmt.Errorf("the KDC's %d bytes of key parameters are not a number of iterations", len(h.params))
		}
		n = binary.BigEndian.Uint32(h.params)
	}
	if n == 0 || n > maxIterations || len(h.salt) > maxSalt {
		return k, fmt.Errorf("the KDC asks for %d iterations over a salt of %d bytes; that is refused as too much", n, len(h.salt))
	}
	seed, err := pbkdf2(ctx, s.hash, password, []byte(s.prefix+h.salt), n, keySize[h.etype])
	if err != nil {
		return k, err
	}
	defer clear(seed)
	k.KeyValue, err = et.DeriveKey(et.RandomToKey(seed), []byte("kerberos"))
	return k, err
}

// slow are the encryption types whose keys take time to make.
var slow = map[int32]struct {
	hash       func() hash.Hash
	iterations uint32 // unless the KDC says otherwise
	prefix     string // of the salt
}{
	etypeID.AES128_CTS_HMAC_SHA1_96:    {sha1.New, 4096, ""},
	etypeID.AES256_CTS_HMAC_SHA1_96:    {sha1.New, 4096, ""},
	etypeID.AES128_CTS_HMAC_SHA256_128: {sha256.New, 32768, "aes128-cts-hmac-sha256-128\x00"},
	etypeID.AES256_CTS_HMAC_SHA384_192: {sha512.New384, 32768, "aes256-cts-hmac-sha384-192\x00"},
}

// pbkdf2 is RFC 8018 section 5.2 on a password that is no string. It gives up
// when ctx ends.
func pbkdf2(ctx context.Context, h func() hash.Hash, password, salt []byte, iterations uint32, size int) ([]byte, error) {
	prf := hmac.New(h, password)
	var key []byte
	for block := uint32(1); len(key) < size; block++ {
		prf.Reset()
		prf.Write(binary.BigEndian.AppendUint32(slices.Clone(salt), block))
		u := prf.Sum(nil)
		t := slices.Clone(u)
		for i := uint32(1); i < iterations; i++ {
			if i%1024 == 0 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			prf.Reset()
			prf.Write(u)
			u = prf.Sum(u[:0])
			for j := range t {
				t[j] ^= u[j]
			}
		}
		key = append(key, t...)
	}
	return key[:size], nil
}

// utf16LE is how Windows sees a password.
func utf16LE(b []byte) []byte {
	out := make([]byte, 0, 2*len(b))
	var units [2]uint16
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		b = b[n:]
		for _, u := range utf16.AppendRune(units[:0], r) {
			out = binary.LittleEndian.AppendUint16(out, u)
		}
	}
	return out
}
