package doctor_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"kerbpass/internal/doctor"
)

func redact(n doctor.Names, texts ...string) []string {
	var r doctor.Report
	for _, s := range texts {
		r.Findings = append(r.Findings, doctor.Finding{Seen: s, Action: s})
	}
	var out []string
	for _, f := range doctor.Redact(r, n).Findings {
		if f.Seen != f.Action {
			return []string{"seen and action differ: " + f.Seen + " / " + f.Action}
		}
		out = append(out, f.Seen)
	}
	return out
}

func TestRedactReads(t *testing.T) {
	n := doctor.Names{Users: []string{`CORP\bob`}, Hosts: []string{"laptop7"}, Homes: []string{"/home/bob"}}
	for _, tt := range []struct{ in, want string }{
		{"alice@CORP.EXAMPLE until 17:30 (3 h 2 min left), in FILE:/tmp/krb5cc_1000.", "user1@REALM1 until 17:30 (3 h 2 min left), in FILE:/tmp/krb5cc_1000."},
		{"HTTP/proxy.corp.example@CORP.EXAMPLE of alice@CORP.EXAMPLE", "HTTP/host1.example@REALM1 of user1@REALM1"},
		{"krbtgt/CORP@CORP", "krbtgt/REALM1@REALM1"},
		{"http://proxy.corp.example:8080 (from HTTPS_PROXY) is an alias of P1.corp.example.", "http://host1.example:8080 (from HTTPS_PROXY) is an alias of host2.example."},
		{"http://alice:hunter2@p.corp.example:8080/x?token=abc#f", "http://host1.example:8080/x?[removed]"},
		{"http://alice:p@ss@p.corp.example/", "http://host1.example/"},
		{"10.1.2.3 and [2001:db8::17]:8080, not 127.0.0.1 or ::1", "address2 and [address1]:8080, not 127.0.0.1 or ::1"},
		{"/home/bob/.config/kerbpass/config.toml:3:7: expected", "~/.config/kerbpass/config.toml:3:7: expected"},
		{"Set kerberos.spn or kerberos.canonicalize; libgssapi_krb5.so.2 of /usr/lib/x86_64-linux-gnu/libgssapi_krb5.so.2.2", "Set kerberos.spn or kerberos.canonicalize; libgssapi_krb5.so.2 of /usr/lib/x86_64-linux-gnu/libgssapi_krb5.so.2.2"},
		{"laptop7 and LAPTOP7, FILE:/tmp/krb5cc_bob, bobsled", "host1.example and host1.example, FILE:/tmp/krb5cc_user1, bobsled"},
		{"Cookie: session=1; b=2", "Cookie: [removed]"},
		{"kerbpass-test.invalid answers 503", "kerbpass-test.invalid answers 503"},
		{"A token of 734 bytes, SPNEGO with Kerberos (aes256-cts-hmac-sha1-96).", "A token of 734 bytes, SPNEGO with Kerberos (aes256-cts-hmac-sha1-96)."},
		{"It offers: Negotiate, NTLM instead of Kerberos. Switch it on: kerbpass kerberos on.", "It offers: Negotiate, NTLM instead of Kerberos. Switch it on: kerbpass kerberos on."},
		{"Its certificate is signed by \"Corp Root\", not before 2026-01-02.", "Its certificate is signed by \"Corp Root\", not before 2026-01-02."},
	} {
		// CORP\bob makes bob user1 or user2, depending on who comes first.
		names := n
		if !strings.Contains(tt.in, "bob") && !strings.Contains(tt.in, "laptop7") {
			names = doctor.Names{}
		} else {
			names.Users = []string{"bob"}
		}
		if got := redact(names, tt.in)[0]; got != tt.want {
			t.Errorf("%q\ngot  %q\nwant %q", tt.in, got, tt.want)
		}
	}
	// The same name is the same stand-in in all findings.
	got := redact(doctor.Names{}, "alice@A.EXAMPLE", "bea@A.EXAMPLE knows ALICE and p.x.example", "P.X.Example")
	if want := "user1@REALM1|user2@REALM1 knows user1 and host1.example|host1.example"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "|"), want)
	}
}

// TestNothingSurvives plants names and secrets in every way they could be
// written, and looks for them in every way they could have survived.
func TestNothingSurvives(t *testing.T) {
	token := "YIICxQYGKwYBBQUCoIICuTCCArWgCzAJBgcqhkiG9xIBAgKiggKkBIICoGCCApwGCSqGSIb3EgECAgEAboICizCCAoegAwIBBaEDAgEO"
	secrets := []string{"hunter2-Passw0rd", "tr0ub4dor&3", "sess10n-c00kie-value", "q-u-e-r-y=yes", token}
	names := doctor.Names{
		Users: []string{`CORPNET\wilhelmina`, "wilhelmina"}, Principals: []string{"wilhelmina@CORP-REALM.TEST", "svc-kerb/box9.corp-net.test@OTHER.REALM.TEST"},
		Hosts: []string{"workstation-77", "squid-eleven.corp-net.test", "intranetbox", "192.0.2.45"}, Homes: []string{"/home/wilhelmina"},
	}
	planted := []string{"wilhelmina", "corpnet", "corp-realm.test", "svc-kerb", "box9.corp-net.test", "other.realm.test", "workstation-77", "squid-eleven.corp-net.test",
		"intranetbox", "192.0.2.45", "unheard-of.corp-net.test", "stranger"}

	var texts []string
	say := func(s string) { texts = append(texts, s) }
	for _, n := range planted {
		for _, s := range []string{n, strings.ToUpper(n), strings.ToUpper(n[:1]) + n[1:]} {
			say("It is " + s + ".")
			say("/var/lib/" + s + "/krb5cc_" + s + "x")
			say("http://" + s + ":8080/" + s)
			for offset := range 3 {
				say("value " + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("#", offset)+s)) + " end")
				say("value " + base64.URLEncoding.EncodeToString([]byte(strings.Repeat(" ", offset)+s+"?>~~")) + " end")
			}
			say("hex " + hex.EncodeToString([]byte(s)) + " " + strings.ToUpper(hex.EncodeToString([]byte(s))))
			say("escaped %2F" + s + "%2f and " + percentAll(s) + " and " + strings.ToLower(percentAll(s)))
		}
	}
	// Names that only their form tells, or another finding.
	say("stranger@CORP-REALM.TEST met unheard-of.corp-net.test")
	for _, s := range secrets {
		say("http://user:" + s + "@squid-eleven.corp-net.test:3128/")
		say("see https://squid-eleven.corp-net.test/path?" + s + "&x=" + url.QueryEscape(s))
		say("password=" + s)
		say(`Password: "` + s + `"`)
		say("Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+s)))
		say("Set-Cookie: id=" + s + "; Path=/; " + s)
		say("sent Negotiate " + base64.StdEncoding.EncodeToString([]byte(s)) + ", refused")
		say("token: " + s)
	}
	for _, cut := range []int{24, 40, len(token)} { // shortened is not removed
		say("got " + token[:cut] + "… back")
		say("Negotiate " + token[len(token)-cut:])
	}

	var r doctor.Report
	for _, s := range texts {
		r.Findings = append(r.Findings, doctor.Finding{Seen: s, Action: s, State: doctor.Fail})
	}
	r.Version, r.System = "1.0 of wilhelmina", "linux on workstation-77"
	out := doctor.Redact(r, names)
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	all := string(b) + out.Text(doctor.Look{Width: 100000})
	for i, f := range out.Findings {
		scan(t, texts[i], f.Seen, planted, secrets)
		scan(t, texts[i], f.Action, planted, secrets)
	}
	scan(t, "the report as a whole", strings.ReplaceAll(all, "\n", " "), planted, secrets)
	if strings.Contains(r.Findings[0].Seen, "user1") {
		t.Error("the report given was changed")
	}
}

func percentAll(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}

// scan looks for planted words as they are, without case, with percent signs
// undone, and in everything that can be decoded.
func scan(t *testing.T, from, text string, words ...[]string) {
	t.Helper()
	views := []string{text}
	if plain, err := url.PathUnescape(text); err == nil {
		views = append(views, plain)
	}
	for _, piece := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \"'[]().,:;<>", r) }) {
		for skip := range min(4, len(piece)) {
			p := strings.TrimRight(piece[skip:], "=")
			for _, p := range []string{p, p[:len(p)-len(p)%4]} {
				for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
					if d, err := enc.DecodeString(p); err == nil {
						views = append(views, string(d))
					}
				}
				if d, err := hex.DecodeString(p); err == nil {
					views = append(views, string(d))
				}
			}
		}
	}
	for _, view := range views {
		low := strings.ToLower(view)
		for _, list := range words {
			for _, w := range list {
				for _, part := range []string{w, w[:min(len(w), 24)]} {
					if strings.Contains(low, strings.ToLower(part)) {
						t.Errorf("%q survives in %.200q, made of %.200q", part, view, from)
						return
					}
				}
			}
		}
	}
}
