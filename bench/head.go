package main

import (
	"bufio"
	"bytes"
	"errors"
	"strconv"
)

// A head is what the comparison looks at in the head of a request or a
// response. Its slices hold until the next read.
type head struct {
	word   [3][]byte // of the first line
	auth   []byte    // Proxy-Authorization
	length int64     // of the body; or one of the next two
	close  bool      // the connection ends behind this message
	expect bool      // the client waits for 100 (Continue)
}

const (
	lengthChunked = -1
	lengthUnknown = -2
)

var (
	errHead = errors.New("malformed head")
	crlf    = []byte("\r\n")
	headEnd = []byte("\r\n\r\n")
)

// peekHead waits for a whole head and returns it without consuming it.
func peekHead(br *bufio.Reader) ([]byte, error) {
	for need := 1; ; {
		if _, err := br.Peek(need); err != nil {
			return nil, err
		}
		have, _ := br.Peek(br.Buffered())
		if i := bytes.Index(have, headEnd); i >= 0 {
			return have[:i+len(headEnd)], nil
		}
		need = len(have) + 1
	}
}

// readHead reads one head. The reader's buffer bounds its size.
func readHead(br *bufio.Reader, h *head) error {
	text, err := peekHead(br)
	if err == nil {
		err = parseHead(text, h)
	}
	if err == nil {
		_, err = br.Discard(len(text))
	}
	return err
}

func parseHead(text []byte, h *head) error {
	*h = head{length: lengthUnknown}
	line, rest, ok := bytes.Cut(text, crlf)
	if !ok {
		return errHead
	}
	var more bool
	for i := range h.word {
		h.word[i], line, more = bytes.Cut(line, []byte(" "))
		if !more && i < 1 {
			return errHead
		}
	}
	version := h.word[2]
	if bytes.HasPrefix(h.word[0], []byte("HTTP/")) {
		version = h.word[0]
	}
	h.close = !bytes.Equal(version, []byte("HTTP/1.1"))
	for len(rest) > 0 && !bytes.Equal(rest, crlf) {
		line, rest, _ = bytes.Cut(rest, crlf)
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return errHead
		}
		value = bytes.TrimSpace(value)
		is := func(s string) bool { return len(name) == len(s) && bytes.EqualFold(name, []byte(s)) }
		switch {
		case is("Content-Length"):
			n, err := strconv.ParseUint(string(value), 10, 62)
			if err != nil {
				return errHead
			}
			h.length = int64(n)
		case is("Transfer-Encoding"):
			h.length = lengthChunked
		case is("Connection"), is("Proxy-Connection"):
			if bytes.EqualFold(value, []byte("close")) {
				h.close = true
			} else if bytes.EqualFold(value, []byte("keep-alive")) {
				h.close = false
			}
		case is("Proxy-Authorization"):
			h.auth = value
		case is("Expect"):
			h.expect = true
		}
	}
	return nil
}

// status is the number in a response's first line, 0 if there is none.
func (h *head) status() int {
	n, _ := strconv.Atoi(string(h.word[1]))
	return n
}
