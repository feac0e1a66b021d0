package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is what a message asks for or answers.
type kind byte

const (
	opGet kind = iota + 1
	opSet
	opDelete
	opPrincipal
	opGetLogin
	opSetLogin
	opDeleteLogin

	done
	notFound
	unavailable
	locked
	tooLarge
)

// failures are the answers that are errors.
var failures = map[kind]error{
	notFound: ErrNotFound, unavailable: ErrUnavailable, locked: ErrLocked, tooLarge: ErrTooLarge,
}

// A message is one question to the child, or its answer: kind, length of text
// (two bytes, big endian), length of secret (four bytes), text, secret.
type message struct {
	kind   kind
	text   string // a principal; of a failure the library's words
	secret []byte
}

const (
	headerSize = 1 + 2 + 4
	maxText    = 1024
)

var errMalformed = errors.New("malformed message")

// write sends m in one piece and wipes the copy it makes for that. Its text and
// secret are within the bounds.
func (m message) write(w io.Writer) error {
	b := make([]byte, headerSize, headerSize+len(m.text)+len(m.secret)) // never grows: that would leave a copy behind
	b[0] = byte(m.kind)
	binary.BigEndian.PutUint16(b[1:], uint16(len(m.text)))
	binary.BigEndian.PutUint32(b[3:], uint32(len(m.secret)))
	b = append(append(b, m.text...), m.secret...)
	defer clear(b)
	_, err := w.Write(b)
	return err
}

// readMessage reads one message and no byte more. The caller wipes its secret.
// The error is [io.EOF] only if there was nothing at all.
func readMessage(r io.Reader) (message, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return message{}, err
	}
	text, secret := int(binary.BigEndian.Uint16(header[1:])), binary.BigEndian.Uint32(header[3:])
	if k := kind(header[0]); k < opGet || k > tooLarge || text > maxText || secret > MaxSecret {
		return message{}, fmt.Errorf("%w: %x", errMalformed, header)
	}
	body := make([]byte, text+int(secret))
	if _, err := io.ReadFull(r, body); err != nil {
		clear(body)
		return message{}, io.ErrUnexpectedEOF
	}
	return message{kind: kind(header[0]), text: string(body[:text]), secret: body[text:]}, nil
}

// check refuses, at both ends, questions about what not every keyring can keep.
func (m message) check() error {
	if m.kind == opPrincipal {
		return nil
	}
	if err := checkPrincipal(m.text); err != nil {
		return err
	}
	switch {
	case (m.kind == opSet || m.kind == opSetLogin) && len(m.secret) == 0:
		return errors.New("the password is empty")
	case len(m.secret) > MaxSecret:
		return fmt.Errorf("%w: it has %d bytes, at most %d are possible", ErrTooLarge, len(m.secret), MaxSecret)
	}
	return nil
}

func checkPrincipal(name string) error {
	switch {
	case name == "":
		return errors.New("no principal given")
	case len(name) > MaxPrincipal:
		return fmt.Errorf("the principal has %d bytes, at most %d are possible", len(name), MaxPrincipal)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		// D-Bus takes UTF-8 only; macOS's tool reads its commands line by line.
		return fmt.Errorf("the principal %q has characters that a keyring cannot keep", name)
	}
	return nil
}

// err is what an answer means to the one who asked.
func (m message) err() error {
	switch failure, ok := failures[m.kind]; {
	case m.kind == done:
		return nil
	case !ok:
		return fmt.Errorf("%w: %d is no answer", errMalformed, m.kind)
	case m.text != "":
		return fmt.Errorf("%w: %s", failure, m.text)
	default:
		return failure
	}
}
