package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

const longestAnswer = 64 << 10

// lineReader reads answers from standard input, one line each.
type lineReader struct{ r *bufio.Reader }

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{bufio.NewReaderSize(r, longestAnswer)}
}

// ask returns the next line, or why ctx has ended. The read itself goes on then
// until the program ends.
func (l *lineReader) ask(ctx context.Context) ([]byte, error) { return await(ctx, l.next) }

// await returns what read does, or why ctx has ended meanwhile.
func await(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type line struct {
		text []byte
		err  error
	}
	done := make(chan line, 1)
	go func() {
		text, err := read()
		done <- line{text, err}
	}()
	select {
	case l := <-done:
		return l.text, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// next returns the next line without its end. The last one needs no end; an
// input that is over is [io.EOF].
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	defer func() { clear(line) }() // of the reader's buffer
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("a line is longer than %d bytes", longestAnswer)
	case err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)):
		return nil, err
	}
	answer := append([]byte(nil), line...)
	for _, end := range []byte("\n\r") {
		if n := len(answer); n > 0 && answer[n-1] == end {
			answer = answer[:n-1]
		}
	}
	return answer, nil
}

// terminal asks a person.
type terminal struct{ in *os.File }

// openTerminal takes in if it is one.
func openTerminal(in io.Reader) (*terminal, error) {
	f, ok := in.(*os.File)
	if !ok || !isTerminal(f) {
		return nil, errors.New("standard input is none")
	}
	return &terminal{f}, nil
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// ask shows text on w and reads one line, without showing it if it is hidden.
// When ctx ends, the terminal is put back as it was; the read itself goes on
// until the program ends.
func (t *terminal) ask(ctx context.Context, w io.Writer, text string, hidden bool) ([]byte, error) {
	fd := int(t.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	fmt.Fprintf(w, "%s: ", text)
	read := newLineReader(t.in).next
	if hidden {
		read = func() ([]byte, error) { return term.ReadPassword(fd) }
	}
	answer, err := await(ctx, read)
	if ctx.Err() != nil {
		term.Restore(fd, before)
	}
	if hidden || ctx.Err() != nil {
		fmt.Fprintln(w)
	}
	if errors.Is(err, io.EOF) {
		return nil, context.Canceled // Ctrl-D
	}
	return answer, err
}
