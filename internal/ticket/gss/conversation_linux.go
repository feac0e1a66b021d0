//go:build linux && !nogss

package gss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unsafe"

	"kerbpass/internal/ticket"
)

// A conversation is one exchange with a KDC: what the library asks meanwhile,
// and which KDC answered. Only the goroutine of the exchange uses it; the
// library's callbacks run on that one too.
type conversation struct {
	ctx      context.Context
	ask      ticket.Prompter // nil: nobody to ask
	banner   string          // said without a question, for the next one
	password []byte          // the last one given
	err      error           // why the library was told to give up
	kdc      string          // host:port of the last answer
}

// conversations finds the conversation that a C callback belongs to: C may not
// hold a Go pointer.
var conversations = struct {
	mu   sync.Mutex
	next uintptr
	by   map[uintptr]*conversation
}{by: map[uintptr]*conversation{}}

// register makes c known to the callbacks until the returned func is called.
func (c *conversation) register() (id uintptr, end func()) {
	t := &conversations
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	id = t.next
	t.by[id] = c
	return id, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.by, id)
		clear(c.password)
	}
}

func conversationOf(id uintptr) *conversation {
	conversations.mu.Lock()
	defer conversations.mu.Unlock()
	return conversations.by[id]
}

// traced is a krb5_trace_callback. Info is a struct of one string, nil when
// the context goes.
func traced(_ handle, info *handle, id uintptr) uintptr {
	c := conversationOf(id)
	if c == nil || info == nil {
		return 0
	}
	if kdc := answered(goString(*info)); kdc != "" {
		c.kdc = kdc
	}
	return 0
}

// answered takes the KDC out of a line of MIT's trace:
// "[pid] time: Received answer (734 bytes) from stream 127.0.0.1:88".
func answered(line string) string {
	_, rest, _ := strings.Cut(line, "Received answer (")
	_, rest, found := strings.Cut(rest, " bytes) from ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 2 {
		return ""
	}
	return fields[1]
}

// A promptLayout says where the fields of a krb5_prompt and of the krb5_data
// that takes its answer lie.
type promptLayout struct {
	size      uintptr // of a prompt; text at 0, hidden at 8, reply at 16
	kind      uintptr // 0: not in it
	length    uintptr // in krb5_data; the bytes are at 8
	longCount bool    // its length has 64 bits
}

var (
	mitPrompts     = promptLayout{size: 24, length: 4}
	heimdalPrompts = promptLayout{size: 32, kind: 24, longCount: true}
)

// count is the length in the krb5_data at d: room before, used after.
func (o promptLayout) count(d handle) uint64 {
	p := unsafe.Add(d, o.length)
	if o.longCount {
		return *(*uint64)(p)
	}
	return uint64(*(*uint32)(p))
}

func (o promptLayout) setCount(d handle, n int) {
	p := unsafe.Add(d, o.length)
	if o.longCount {
		*(*uint64)(p) = uint64(n)
	} else {
		*(*uint32)(p) = uint32(n)
	}
}

// bytes are what the krb5_data at d points to, at most limit of them.
func (o promptLayout) bytes(d handle, limit uint64) []byte {
	start := *(**byte)(unsafe.Add(d, 8))
	if start == nil {
		return nil
	}
	return unsafe.Slice(start, min(o.count(d), limit))
}

const (
	maxPrompts = 16
	maxReply   = 64 << 10
)

// prompted is a krb5_prompter_fct.
func prompted(ctx handle, id uintptr, _, banner handle, n int32, prompts handle) int32 {
	c := conversationOf(id)
	if c == nil {
		return codeInterrupted
	}
	if err := c.reply(loadedLibrary(), ctx, goString(banner), int(n), prompts); err != nil {
		c.err = err
		return codeInterrupted
	}
	return 0
}

// loadedLibrary is the one that a callback comes from.
func loadedLibrary() *library {
	loadMu.Lock()
	defer loadMu.Unlock()
	return loaded
}

// reply puts the person's answers where the library wants them.
func (c *conversation) reply(l *library, ctx handle, banner string, n int, prompts handle) error {
	if n == 0 {
		c.banner = joinLines(c.banner, banner)
		return nil
	}
	if n < 0 || n > maxPrompts {
		return fmt.Errorf("the library asks %d questions at once", n)
	}
	o := l.prompts
	questions := make([]ticket.Prompt, n)
	room := make([][]byte, n)
	for i := range n {
		p := unsafe.Add(prompts, uintptr(i)*o.size)
		questions[i] = ticket.Prompt{
			Kind:   l.promptKind(ctx, p, i),
			Text:   tidy(goString(*(*handle)(p))),
			Hidden: *(*int32)(unsafe.Add(p, 8)) != 0,
		}
		room[i] = o.bytes(*(*handle)(unsafe.Add(p, 16)), maxReply)
	}
	answers, err := c.put(joinLines(c.banner, banner), questions)
	defer wipe(answers)
	c.banner = ""
	if err != nil {
		return err
	}
	for i, a := range answers {
		text := a.Expose()
		if len(text) >= len(room[i]) { // a NUL has to fit too
			return fmt.Errorf("the answer is too long: more than %d bytes", max(0, len(room[i])-1))
		}
		room[i][copy(room[i], text)] = 0
		p := unsafe.Add(prompts, uintptr(i)*o.size)
		o.setCount(*(*handle)(unsafe.Add(p, 16)), len(text))
	}
	return nil
}

// put asks the person. The caller wipes the answers, which come with an error
// too.
func (c *conversation) put(banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
	if err := context.Cause(c.ctx); err != nil {
		return nil, err
	}
	if c.ask == nil {
		return nil, errors.New("the library asks a question, and there is nobody to answer")
	}
	answers, err := c.ask(c.ctx, banner, questions)
	switch {
	case err != nil:
		return answers, err
	case c.ctx.Err() != nil:
		return answers, context.Cause(c.ctx)
	case len(answers) != len(questions):
		return answers, fmt.Errorf("got %d answers to %d questions", len(answers), len(questions))
	}
	for i, a := range answers {
		text := a.Expose()
		if bytes.IndexByte(text, 0) >= 0 {
			return answers, errors.New("the answer contains a NUL byte")
		}
		if len(text) > maxText {
			return answers, fmt.Errorf("the answer has more than %d bytes", maxText)
		}
		if questions[i].Kind != ticket.PromptPassword {
			continue
		}
		if len(text) == 0 {
			return answers, errors.New("the password is empty")
		}
		c.keep(text)
	}
	return answers, nil
}

// keep remembers password for the rest of the conversation.
func (c *conversation) keep(password []byte) {
	clear(c.password)
	c.password = bytes.Clone(password)
}

// promptKind says what the i-th prompt, at p, asks for.
func (l *library) promptKind(ctx, p handle, i int) ticket.PromptKind {
	var kind int32
	if l.prompts.kind != 0 {
		kind = *(*int32)(unsafe.Add(p, l.prompts.kind))
	} else if kinds := l.promptTypes(ctx); kinds != nil {
		kind = *(*int32)(unsafe.Add(kinds, 4*i))
	}
	switch kind { // the same numbers in MIT and Heimdal
	case 1:
		return ticket.PromptPassword
	case 2:
		return ticket.PromptNewPassword
	case 3:
		return ticket.PromptNewAgain
	}
	return ticket.PromptOther
}

func wipe(answers []ticket.Secret) {
	for _, a := range answers {
		a.Wipe()
	}
}

// maxText bounds what a KDC or a plug-in has shown to the person, and answers.
const maxText = 1000

// tidy makes foreign text fit to be shown: one line, valid, not too long, and
// without the colon of a terminal prompt.
func tidy(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxText)], "")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsGraphic(r) }), " ")
	return strings.TrimRight(text, ": ")
}

func joinLines(a, b string) string {
	a, b = strings.TrimSpace(a), strings.TrimSpace(b)
	if a == "" || b == "" {
		return a + b
	}
	return a + "\n" + b
}
