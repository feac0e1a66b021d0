package keyring

import (
	"errors"
	"fmt"
	"io"
	"strings"

	gokeyring "github.com/zalando/go-keyring"
)

// What the items are called in the keyring. The last one holds the name of the
// principal whose password the first one holds.
const (
	service        = "kerbpass"
	loginService   = "kerbpass-upstream"
	pointerService = "kerbpass-principal"
	pointerAccount = "remembered"
)

var errAskerGone = errors.New("keyring child: whoever asked has gone")

// Serve is the child: it reads one question of a [Store] from in and writes the
// answer to out. When in ends before the answer, nobody waits for it any more;
// Serve then returns an error at once, so that the process can end although a
// call into the library hangs. It leaves this process unable to dump core.
//
// The password is in buffers that are overwritten, but for the strings that the
// library takes and returns; they go with the process.
func Serve(in io.Reader, out io.Writer) error {
	if err := harden(); err != nil {
		return fmt.Errorf("keyring child: %w", err)
	}
	return serve(in, out)
}

func serve(in io.Reader, out io.Writer) error {
	request, err := readMessage(in)
	if err != nil {
		return fmt.Errorf("keyring child: read the question: %w", err)
	}
	if err := request.check(); err != nil {
		return fmt.Errorf("keyring child: %w", err)
	}
	answered, gone := make(chan message, 1), make(chan struct{})
	go func() { answered <- request.perform() }()
	go func() {
		defer close(gone)
		_, _ = in.Read(make([]byte, 1))
	}()
	select {
	case answer := <-answered:
		defer clear(answer.secret)
		return answer.write(out)
	case <-gone:
		return errAskerGone
	}
}

// perform does what m asks for. It wipes m's secret.
func (m message) perform() message {
	defer clear(m.secret)
	var answer message
	var err error
	switch m.kind {
	case opGet:
		answer.secret, err = get(service, m.text)
	case opSet:
		err = remember(m.text, m.secret)
	case opDelete:
		err = forget(m.text)
	case opGetLogin:
		answer.secret, err = get(loginService, m.text)
	case opSetLogin:
		err = gokeyring.Set(loginService, m.text, string(m.secret))
	case opDeleteLogin:
		err = ignoreNotFound(gokeyring.Delete(loginService, m.text))
	case opPrincipal:
		answer.text, err = remembered()
	default:
		err = fmt.Errorf("%w: %d is no question", errMalformed, m.kind)
	}
	if err != nil {
		return failure(err)
	}
	answer.kind = done
	return answer
}

func get(service, name string) ([]byte, error) {
	password, err := gokeyring.Get(service, name)
	if err == nil && len(password) > MaxSecret {
		return nil, gokeyring.ErrSetDataTooBig // not ours: it could not have been set
	}
	return []byte(password), err
}

// remember works in an order that leaves no password behind to which
// remembered does not lead, whichever step fails.
func remember(principal string, password []byte) error {
	before, err := remembered()
	if err != nil {
		return err
	}
	if before != "" && before != principal {
		if err := ignoreNotFound(gokeyring.Delete(service, before)); err != nil {
			return err
		}
	}
	if err := gokeyring.Set(pointerService, pointerAccount, principal); err != nil {
		return err
	}
	err = gokeyring.Set(service, principal, string(password))
	if err != nil && before != principal { // and so there is no older password either
		err = errors.Join(err, gokeyring.Delete(pointerService, pointerAccount))
	}
	return err
}

func forget(principal string) error {
	if err := ignoreNotFound(gokeyring.Delete(service, principal)); err != nil {
		return err
	}
	before, err := remembered()
	if err != nil || before != principal {
		return err
	}
	return ignoreNotFound(gokeyring.Delete(pointerService, pointerAccount))
}

// remembered is whose password is in the keyring, "" if nobody's is. A name
// that this program could not have written counts as nobody's.
func remembered() (string, error) {
	principal, err := gokeyring.Get(pointerService, pointerAccount)
	if err != nil || checkPrincipal(principal) != nil {
		return "", ignoreNotFound(err)
	}
	return principal, nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, gokeyring.ErrNotFound) {
		return nil
	}
	return err
}

// failure sorts the library's errors. Most have no type: whatever is not known
// means that there is no usable keyring.
func failure(err error) message {
	text := err.Error()
	switch {
	case errors.Is(err, gokeyring.ErrNotFound):
		return message{kind: notFound}
	case errors.Is(err, gokeyring.ErrSetDataTooBig):
		return message{kind: tooLarge}
	case strings.HasPrefix(text, "failed to unlock"):
		return message{kind: locked, text: "it was not unlocked, or none was made yet"}
	}
	return message{kind: unavailable, text: strings.ToValidUTF8(text[:min(len(text), maxText)], "")}
}
