package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadHead(t *testing.T) {
	for _, tt := range []struct {
		text   string
		word   [3]string
		auth   string
		length int64
		close  bool
		expect bool
		err    error
	}{
		{text: "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", word: [3]string{"GET", "http://a/", "HTTP/1.1"}, length: lengthUnknown},
		{text: "POST / HTTP/1.1\r\ncontent-length: 12\r\nEXPECT: 100-continue\r\n\r\n", word: [3]string{"POST", "/", "HTTP/1.1"}, length: 12, expect: true},
		{text: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", word: [3]string{"POST", "/", "HTTP/1.1"}, length: lengthChunked},
		{text: "GET / HTTP/1.0\r\n\r\n", word: [3]string{"GET", "/", "HTTP/1.0"}, length: lengthUnknown, close: true},
		{text: "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", word: [3]string{"GET", "/", "HTTP/1.0"}, length: lengthUnknown},
		{text: "GET / HTTP/1.1\r\nProxy-Connection: close\r\n\r\n", word: [3]string{"GET", "/", "HTTP/1.1"}, length: lengthUnknown, close: true},
		{text: "CONNECT a:443 HTTP/1.1\r\nProxy-Authorization:  Basic eA== \r\n\r\n", word: [3]string{"CONNECT", "a:443", "HTTP/1.1"}, auth: "Basic eA==", length: lengthUnknown},
		{text: "HTTP/1.1 200 Connection established\r\n\r\n", word: [3]string{"HTTP/1.1", "200", "Connection"}, length: lengthUnknown},
		{text: "HTTP/1.1 502\r\nContent-Length: 0\r\n\r\n", word: [3]string{"HTTP/1.1", "502", ""}, length: 0},
		{text: "HTTP/1.0 200 OK\r\n\r\n", word: [3]string{"HTTP/1.0", "200", "OK"}, length: lengthUnknown, close: true},

		{text: "nonsense\r\n\r\n", err: errHead},
		{text: "GET / HTTP/1.1\r\nno colon\r\n\r\n", err: errHead},
		{text: "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", err: errHead},
		{text: "GET / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", err: errHead},
		{text: "GET / HTTP/1.1\r\n", err: io.EOF},
		{text: "", err: io.EOF},
		{text: "GET / HTTP/1.1\r\nA: " + strings.Repeat("x", 5000) + "\r\n\r\n", err: bufio.ErrBufferFull},
	} {
		var h head
		// One byte at a time: a head must not depend on how it arrives.
		br := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(tt.text+"rest")), 4096)
		if tt.err == io.EOF {
			br = bufio.NewReaderSize(strings.NewReader(tt.text), 4096)
		}
		if err := readHead(br, &h); !errors.Is(err, tt.err) {
			t.Errorf("%.60q: got error %v, want %v", tt.text, err, tt.err)
			continue
		}
		if tt.err != nil {
			continue
		}
		for i, w := range tt.word {
			if string(h.word[i]) != w {
				t.Errorf("%q: got word %d %q, want %q", tt.text, i, h.word[i], w)
			}
		}
		if string(h.auth) != tt.auth || h.length != tt.length || h.close != tt.close || h.expect != tt.expect {
			t.Errorf("%q: got auth %q, length %d, close %v, expect %v", tt.text, h.auth, h.length, h.close, h.expect)
		}
		if rest, _ := io.ReadAll(br); string(rest) != "rest" {
			t.Errorf("%q: %q is left, want the bytes behind the head", tt.text, rest)
		}
	}
}
