package ticket_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"kerbpass/internal/ticket"
)

func TestSecretStaysHidden(t *testing.T) {
	const word = "hunter2"
	s := ticket.NewSecret([]byte(word))
	type hidden struct{ secret ticket.Secret }
	type deep struct{ inner *hidden }
	shapes := map[string]any{
		"value":            s,
		"pointer":          &s,
		"exported field":   struct{ Secret ticket.Secret }{s},
		"unexported field": hidden{s},
		"pointer to it":    &hidden{s},
		"deep":             deep{&hidden{s}},
		"slice":            []ticket.Secret{s},
		"slice of hidden":  []hidden{{s}},
		"map":              map[string]ticket.Secret{"k": s},
		"map of hidden":    map[string]*hidden{"k": {s}},
		"interface":        []any{s, hidden{s}},
		"error":            fmt.Errorf("login: %v", s),
	}
	traces := []string{word, fmt.Sprintf("%x", word), fmt.Sprintf("%X", word), fmt.Sprint([]byte(word)),
		strings.Trim(fmt.Sprint([]byte(word)), "[]"), "0x68", "aHVudGVyMg"}
	leaks := func(text string) bool {
		for _, trace := range traces {
			if strings.Contains(text, trace) {
				return true
			}
		}
		return false
	}
	if !leaks(fmt.Sprintf("%v", struct{ s []byte }{[]byte(word)})) || !leaks(fmt.Sprintf("%#v", []byte(word))) {
		t.Fatal("the test does not see a leak")
	}
	for name, shape := range shapes {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% x", "%X", "%d", "%b", "%o", "%c", "%U", "%t", "%T", "%10.3s"} {
			if text := fmt.Sprintf(verb, shape); leaks(text) {
				t.Errorf("%s with %s: %s", name, verb, text)
			}
		}
		var log bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(h).Info("message", "shape", shape, slog.Group("group", "shape", shape))
		}
		if leaks(log.String()) {
			t.Errorf("%s in a log: %s", name, &log)
		}
		if text, err := json.Marshal(shape); err == nil && leaks(string(text)) {
			t.Errorf("%s in JSON: %s", name, text)
		}
	}
	if text, err := json.Marshal(map[string]any{"password": s}); err != nil || string(text) != `{"password":"[redacted]"}` {
		t.Errorf("JSON: %s, %v", text, err)
	}
}

func TestSecretBytes(t *testing.T) {
	var zero ticket.Secret
	if zero.Expose() != nil || fmt.Sprint(zero) != "[redacted]" {
		t.Errorf("the zero Secret: %q %v", zero.Expose(), zero)
	}
	zero.Wipe() // must not panic
	b := []byte("hunter2")
	s := ticket.NewSecret(b)
	other := s
	if string(other.Expose()) != "hunter2" {
		t.Errorf("got %q", other.Expose())
	}
	s.Wipe()
	if !bytes.Equal(b, make([]byte, 7)) || !bytes.Equal(other.Expose(), make([]byte, 7)) {
		t.Errorf("after Wipe: %q, %q", b, other.Expose())
	}
}
