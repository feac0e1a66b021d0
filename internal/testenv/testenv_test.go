package testenv_test

import (
	"strings"
	"testing"

	"kerbpass/internal/testenv"
)

func TestSecret(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		found      bool
	}{
		{"SPNEGO header", "Proxy-Authorization: Negotiate YIIFzwYGKwYBBQUCoIIFwz", true},
		{"bare token", "value=YII" + strings.Repeat("Ab9+", 40), true},
		{"basic", "Authorization: Basic dXNlcjpwYXNzd29yZA==", true},
		{"userinfo", "GET http://user:pw@a.example/", true},
		{"scheme alone", "Proxy-Authenticate: Negotiate", false},
		{"plain words", "ticket for alice@CORP.EXAMPLE until 18:10", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := testenv.Secret(tt.text) != ""; got != tt.found {
				t.Errorf("found a secret in %q: got %v, want %v", tt.text, got, tt.found)
			}
		})
	}
	if testenv.Secret("password hunter2 seen", "hunter2") != "hunter2" {
		t.Error("a given word was not found")
	}
}
