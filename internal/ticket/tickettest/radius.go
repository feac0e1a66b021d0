package tickettest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"
)

// RADIUS is a server that judges one-time passwords, for [WithOTP]. It takes
// each of them once (RFC 2865).
type RADIUS struct {
	Addr   string // UDP, host:port on loopback
	Secret string // shared with the KDC

	mu    sync.Mutex // guards what follows
	left  []string
	asked []string // "otp: 123456", in order, refused ones too
}

// The codes and attributes of RFC 2865 and RFC 3579 that are needed here.
const (
	accessRequest, accessAccept, accessReject = 1, 2, 3

	userName, userPassword, messageAuthenticator = 1, 2, 80
)

// StartRADIUS starts a server that accepts the passwords given, each once. It
// is gone when t ends.
func StartRADIUS(t testing.TB, passwords ...string) *RADIUS {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &RADIUS{Addr: conn.LocalAddr().String(), Secret: "secret-of-a-radius-test", left: passwords}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.serve(conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return r
}

// Asked returns what was asked so far, "user: password" each.
func (r *RADIUS) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

func (r *RADIUS) serve(conn net.PacketConn) {
	var answered struct{ request, reply []byte }
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		request := buf[:n]
		if !bytes.Equal(request, answered.request) { // a repetition gets the same reply
			answered.request, answered.reply = slices.Clone(request), r.reply(request)
		}
		conn.WriteTo(answered.reply, from)
	}
}

// reply is the answer to one packet: code, identifier, length, authenticator,
// attributes. What is no Access-Request with a good length is answered by
// nothing, an empty packet.
func (r *RADIUS) reply(request []byte) []byte {
	if len(request) < 20 || request[0] != accessRequest || int(binary.BigEndian.Uint16(request[2:])) != len(request) {
		return nil
	}
	attributes := map[byte][]byte{}
	for rest := request[20:]; len(rest) >= 2 && int(rest[1]) >= 2 && int(rest[1]) <= len(rest); rest = rest[rest[1]:] {
		attributes[rest[0]] = rest[2:rest[1]]
	}
	authenticator := request[4:20]
	code := byte(accessReject)
	if r.judge(string(attributes[userName]), r.reveal(attributes[userPassword], authenticator)) {
		code = accessAccept
	}
	reply := append([]byte{code, request[1], 0, 20}, authenticator...)
	if attributes[messageAuthenticator] != nil {
		// The client knows of CVE-2024-3596 and insists on one; older ones refuse
		// it. RFC 3579 section 3.2: with zeros in its own place.
		reply[3] = 38
		reply = append(reply, append([]byte{messageAuthenticator, 18}, make([]byte, 16)...)...)
		mac := hmac.New(md5.New, []byte(r.Secret))
		mac.Write(reply)
		copy(reply[22:], mac.Sum(nil))
	}
	sum := md5.Sum(append(slices.Clone(reply), r.Secret...)) // RFC 2865 section 3
	copy(reply[4:], sum[:])
	return reply
}

// reveal undoes the hiding of a password (RFC 2865 section 5.2).
func (r *RADIUS) reveal(hidden, authenticator []byte) string {
	var password []byte
	for before := authenticator; len(hidden) >= 16; before, hidden = hidden[:16], hidden[16:] {
		pad := md5.Sum(append([]byte(r.Secret), before...))
		for i, b := range hidden[:16] {
			password = append(password, b^pad[i])
		}
	}
	return string(bytes.TrimRight(password, "\x00"))
}

func (r *RADIUS) judge(user, password string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, user+": "+password)
	i := slices.Index(r.left, password)
	if i < 0 {
		return false
	}
	r.left = slices.Delete(r.left, i, i+1)
	return true
}
