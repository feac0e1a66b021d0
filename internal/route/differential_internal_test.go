package route

import "testing"

// The path for ASCII names and the conversion of international ones agree on
// every ASCII name that the stricter conversion accepts.
func FuzzASCIIPathAgrees(f *testing.F) {
	for _, s := range []string{"a", "github.com", "GitHub.COM", "a.b-c.d9", "intranet.", "intranet", "a.b.", "1.2.3.4", "127.1", "0x7f.1", "xn--bcher-kva.example",
		"xn--a", "a--b.example", "ab--c.example", "-a.b", "a-.b", "..", ".a", "a..b", "9a.b9", "1e5.example", "example.1", "Kk.example", "z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for i := range len(s) {
			if classes[s[i]] == badByte && s[i] != '.' {
				return
			}
		}
		slow, refused := canonUnicode(s)
		if refused != "" {
			return
		}
		if fast, reason := canon(s); reason != "" || fast != slow {
			t.Errorf("%q: got %q, %s; the conversion says %q", s, fast.text, reason, slow.text)
		}
	})
}
