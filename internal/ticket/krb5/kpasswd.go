package krb5

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/addrtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/ticket"
)

const newPasswordTries = 3

// changePassword replaces a password that has expired, by its own ticket for
// the change (RFC 3244). What the server finds too weak is asked for again.
func (in *login) changePassword(ctx context.Context) error {
	p, err := in.initial(ctx, types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: []string{"kadmin", "changepw"}}, terms{life: changeLife})
	if err != nil {
		return err
	}
	banner := "The password has expired and must be changed now."
	for range newPasswordTries {
		next, err := in.person.newPassword(ctx, banner)
		if errors.Is(err, errDiffer) {
			banner = err.Error()
			continue
		}
		if err != nil {
			return err
		}
		err = in.setPassword(ctx, p, next)
		if err == nil {
			in.person.change(next)
			return nil
		}
		next.Wipe()
		weak, ok := errors.AsType[*rejection](err)
		if !ok || weak.code != softError {
			return kdcError(in.client.realm, "", fmt.Errorf("%w: %w", ticket.ErrPasswordExpired, err))
		}
		banner = weak.Error()
	}
	return kdcError(in.client.realm, "", fmt.Errorf("%w: %s", ticket.ErrPasswordExpired, banner))
}

// setPassword makes one exchange with a server that changes passwords.
func (in *login) setPassword(ctx context.Context, p *pass, next ticket.Secret) error {
	addrs, err := findKpasswd(ctx, in.conf, in.client.realm)
	if err != nil {
		return err
	}
	c := &change{pass: p, proof: newAuthenticator(p, in.now())}
	req, err := c.request(next.Expose(), sourceAddress(addrs[0]))
	if err != nil {
		return err
	}
	raw, _, err := askOnce(ctx, addrs, req)
	if err != nil {
		return err
	}
	return c.read(raw)
}

// A change is one request for another password.
type change struct {
	pass  *pass
	proof types.Authenticator
}

// request frames an AP-REQ and the password in a KRB-PRIV (RFC 3244 section 2,
// with the older version, which every server knows).
func (c *change) request(password []byte, source types.HostAddress) (b []byte, err error) {
	defer recovered(&err)
	c.proof.SubKey = types.EncryptionKey{KeyType: c.pass.session.KeyType, KeyValue: make([]byte, keySize[c.pass.session.KeyType])}
	rand.Read(c.proof.SubKey.KeyValue)
	ap, err := messages.NewAPReq(c.pass.message, c.pass.session, c.proof)
	if err != nil {
		return nil, err
	}
	types.SetFlag(&ap.APOptions, flags.APOptionMutualRequired)
	opening, err := ap.Marshal()
	if err != nil {
		return nil, err
	}
	private := messages.NewKRBPriv(messages.EncKrbPrivPart{
		UserData: password, Timestamp: c.proof.CTime, Usec: c.proof.Cusec, SequenceNumber: c.proof.SeqNumber, SAddress: source,
	})
	if err := private.EncryptEncPart(c.proof.SubKey); err != nil {
		return nil, err
	}
	body, err := private.Marshal()
	if err != nil {
		return nil, err
	}
	n := 6 + len(opening) + len(body)
	if n > 0xffff {
		return nil, fmt.Errorf("a request of %d bytes is too large for its frame", n)
	}
	const version = 1
	for _, v := range []int{n, version, len(opening)} {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return append(append(b, opening...), body...), nil
}

// read opens the server's answer; nil means that the password is changed.
func (c *change) read(raw []byte) (err error) {
	defer recovered(&err)
	if no := readRefusal(raw); no != nil {
		return no
	}
	r := &reader{b: raw}
	size := r.u16()
	r.u16() // version
	opening := r.bytes(uint32(r.u16()))
	if r.failed || int(size) != len(raw) {
		return errors.New("damaged answer from the password server")
	}
	if len(opening) == 0 {
		var no messages.KRBError
		if err := no.Unmarshal(raw[r.at:]); err != nil {
			return fmt.Errorf("damaged answer from the password server: %v", err)
		}
		return readResult(no.EData)
	}
	key, err := c.mutual(opening)
	if err != nil {
		return err
	}
	var private messages.KRBPriv
	if err := private.Unmarshal(raw[r.at:]); err != nil {
		return fmt.Errorf("damaged answer from the password server: %v", err)
	}
	if err := private.DecryptEncPart(key); err != nil {
		return fmt.Errorf("answer of another password server: %v", err)
	}
	return readResult(private.DecryptedEncPart.UserData)
}

// mutual checks that the server could read the request (RFC 4120 section 3.2.5)
// and returns the key that its answer is sealed with.
func (c *change) mutual(opening []byte) (types.EncryptionKey, error) {
	var rep messages.APRep
	if err := rep.Unmarshal(opening); err != nil {
		return types.EncryptionKey{}, fmt.Errorf("damaged answer from the password server: %v", err)
	}
	plain, err := crypto.DecryptEncPart(rep.EncPart, c.pass.session, keyusage.AP_REP_ENCPART)
	if err != nil {
		return types.EncryptionKey{}, fmt.Errorf("answer of another password server: %v", err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return types.EncryptionKey{}, fmt.Errorf("damaged answer from the password server: %v", err)
	}
	if !part.CTime.Equal(c.proof.CTime) || part.Cusec != c.proof.Cusec {
		return types.EncryptionKey{}, errors.New("answer of the password server to another request")
	}
	if len(part.Subkey.KeyValue) > 0 && len(part.Subkey.KeyValue) == keySize[part.Subkey.KeyType] {
		return part.Subkey, nil
	}
	return c.proof.SubKey, nil
}

// A rejection is the password server's no.
type rejection struct {
	code uint16
	text string
}

const softError = 4 // RFC 3244 section 2: the new password is not good enough

func (r *rejection) Error() string {
	if r.text == "" {
		return fmt.Sprintf("the password was not changed (result %d)", r.code)
	}
	return "the password was not changed: " + r.text
}

// readResult reads result code and text.
func readResult(data []byte) error {
	if len(data) < 2 {
		return errors.New("damaged answer from the password server")
	}
	code, text := binary.BigEndian.Uint16(data), data[2:]
	if code == 0 {
		return nil
	}
	return &rejection{code, resultText(text)}
}

// resultText is what the server says about a password: words, or the rules of
// an Active Directory domain in 30 bytes.
func resultText(b []byte) string {
	if len(b) == 30 && b[0] == 0 && b[1] == 0 {
		return fmt.Sprintf("it must have at least %d characters and differ from the last %d",
			binary.BigEndian.Uint32(b[2:]), binary.BigEndian.Uint32(b[6:]))
	}
	const most = 500
	if len(b) > most || !utf8.Valid(b) {
		return ""
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, string(b)))
}

// sourceAddress is the address that the server will see, as a KRB-PRIV has to
// name one; nothing is sent to find it.
func sourceAddress(server string) types.HostAddress {
	unspecified := types.HostAddress{AddrType: addrtype.IPv4, Address: net.IPv4zero.To4()}
	conn, err := net.Dial("udp", server)
	if err != nil {
		return unspecified
	}
	defer conn.Close()
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return types.HostAddressFromNetIP(a.IP)
	}
	return unspecified
}
