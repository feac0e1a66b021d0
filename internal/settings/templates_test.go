package settings_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/settings"
)

// The templates for administrators are made from the one list of settings:
//
//	go test ./internal/settings -run TestTemplates -update
var update = flag.Bool("update", false, "write the templates below packaging")

const packaging = "../../packaging/"

var templates = map[string]func() string{
	"windows/policy/Kerbpass.admx":       admx,
	"windows/policy/en-US/Kerbpass.adml": func() string { return adml(english) },
	"windows/policy/de-DE/Kerbpass.adml": func() string { return adml(german) },
	"macos/kerbpass.mobileconfig":        mobileconfig,
	"linux/policy.toml":                  policyTOML,
}

// What administrators are given holds every setting as it is now.
func TestTemplates(t *testing.T) {
	for name, make := range templates {
		file, want := filepath.Join(packaging, name), make()
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// A checkout may have changed the ends of lines.
		if !bytes.Equal(bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")), []byte(strings.ReplaceAll(want, "\r\n", "\n"))) {
			t.Errorf("%s is not what the settings make of it: go test ./internal/settings -run TestTemplates -update", file)
		}
		for _, k := range settings.Keys() {
			if !strings.Contains(want, k.Key) {
				t.Errorf("%s does not know %s", name, k.Key)
			}
		}
	}
}

// esc is text for XML.
func esc(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&#xA;", "\n").Replace(b.String())
}

// id is a key as a name of the template.
func id(key string) string { return strings.ReplaceAll(key, ".", "_") }

// mayBeEmpty reports whether an empty value means something of its own.
func mayBeEmpty(k settings.KeyInfo) bool {
	switch k.Kind {
	case settings.KindList:
		return k.Key != "listen" && k.Key != "upstream"
	case settings.KindString:
		return len(k.Choices) == 0
	}
	return false
}

// layer is one of the two strengths of a policy.
type layer struct{ prefix, key, category string }

var layers = []layer{
	{"", `Software\Policies\Kerbpass`, "kerbpass"},
	{"recommended_", `Software\Policies\Kerbpass\Recommended`, "recommended"},
}

func admx() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>
<!-- Made from the list of settings; see internal/settings/templates_test.go. -->
<policyDefinitions xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions" revision="1.0" schemaVersion="1.0">
  <policyNamespaces>
    <target prefix="kerbpass" namespace="Kerbpass.Policies"/>
  </policyNamespaces>
  <resources minRequiredRevision="1.0"/>
  <supportedOn>
    <definitions>
      <definition name="SUPPORTED" displayName="$(string.SUPPORTED)"/>
    </definitions>
  </supportedOn>
  <categories>
    <category name="kerbpass" displayName="$(string.kerbpass)"/>
    <category name="recommended" displayName="$(string.recommended)">
      <parentCategory ref="kerbpass"/>
    </category>
  </categories>
  <policies>
`)
	for _, l := range layers {
		for _, k := range settings.Keys() {
			l.policy(&b, k)
		}
	}
	b.WriteString("  </policies>\n</policyDefinitions>\n")
	return b.String()
}

func (l layer) policy(b *strings.Builder, k settings.KeyInfo) {
	name, value := l.prefix+id(k.Key), ""
	if k.Kind == settings.KindBool {
		value = fmt.Sprintf(` valueName="%s"`, k.Key)
	} else {
		value = fmt.Sprintf(` presentation="$(presentation.%s)"`, name)
	}
	fmt.Fprintf(b, "    <policy name=\"%s\" class=\"Both\" displayName=\"$(string.%s)\" explainText=\"$(string.%s_explain)\" key=\"%s\"%s>\n", name, id(k.Key), id(k.Key), l.key, value)
	fmt.Fprintf(b, "      <parentCategory ref=\"%s\"/>\n      <supportedOn ref=\"SUPPORTED\"/>\n", l.category)
	if k.Kind == settings.KindBool {
		b.WriteString("      <enabledValue><decimal value=\"1\"/></enabledValue>\n      <disabledValue><decimal value=\"0\"/></disabledValue>\n    </policy>\n")
		return
	}
	if mayBeEmpty(k) {
		fmt.Fprintf(b, "      <disabledList>\n        <item key=\"%s\" valueName=\"%s\"><value><string></string></value></item>\n      </disabledList>\n", l.key, k.Key)
	}
	b.WriteString("      <elements>\n")
	switch {
	case k.Kind == settings.KindList:
		fmt.Fprintf(b, "        <list id=\"%s\" key=\"%s\\%s\" valuePrefix=\"\"/>\n", name, l.key, k.Key)
	case len(k.Choices) > 0:
		fmt.Fprintf(b, "        <enum id=\"%s\" valueName=\"%s\" required=\"true\">\n", name, k.Key)
		for _, c := range k.Choices {
			fmt.Fprintf(b, "          <item displayName=\"$(string.choice_%s)\"><value><string>%s</string></value></item>\n", c, c)
		}
		b.WriteString("        </enum>\n")
	default:
		fmt.Fprintf(b, "        <text id=\"%s\" valueName=\"%s\" required=\"true\"/>\n", name, k.Key)
	}
	b.WriteString("      </elements>\n    </policy>\n")
}

// language is what an .adml says beside the keys.
type language struct {
	about, supported, recommended     string
	enabled, disabled, empty, further string // of the explanations
	byDefault                         string
	docs                              map[string]string // by key; else the settings' own
}

var english = language{
	about:       "Settings of Kerbpass that the organisation locks. Below Presets: values that count until the person chooses otherwise.",
	supported:   "Kerbpass 1.0 or later",
	recommended: "Presets (the person may change them)",
	enabled:     "Enabled: on.", disabled: "Disabled: off.", empty: "Disabled: the value is empty.",
	further:   "Not configured: the person decides.",
	byDefault: "Without any setting: ",
}

var german = language{
	about:       "Einstellungen von Kerbpass, die die Organisation festlegt. Unter Vorgaben: Werte, die gelten, bis der Benutzer anders wählt.",
	supported:   "Kerbpass 1.0 oder neuer",
	recommended: "Vorgaben (der Benutzer kann sie ändern)",
	enabled:     "Aktiviert: ein.", disabled: "Deaktiviert: aus.", empty: "Deaktiviert: der Wert ist leer.",
	further:   "Nicht konfiguriert: der Benutzer entscheidet.",
	byDefault: "Ohne jede Einstellung: ",
	docs: map[string]string{
		"listen":                 "Loopback-Adressen, auf denen der Proxy lauscht",
		"upstream":               "Proxys der Firma, in der Reihenfolge, in der sie versucht werden",
		"pac":                    "automatische Proxy-Konfiguration: URL oder Datei; \"auto\" fragt das System",
		"no_proxy":               "Suffix-Regeln für Hosts, die direkt erreicht werden",
		"bypass.exact":           "genaue Namen von Hosts, die direkt erreicht werden",
		"kerberos.enabled":       "am Proxy der Firma mit dem Kerberos-Ticket anmelden",
		"kerberos.upstreams":     "weitere Proxys, die ein Token bekommen dürfen, wenn eine PAC-Datei sie nennt; die unter upstream dürfen es immer",
		"kerberos.spn":           "Dienstname (SPN) des Proxys; leer: HTTP/<Name des Proxys>",
		"kerberos.canonicalize":  "was zu tun ist, wenn der Name des Proxys ein Alias ist",
		"kerberos.preemptive":    "das Token mit der ersten Anfrage senden; aus: nur auf Verlangen",
		"kerberos.cache":         "Ticket-Cache; leer: der des Systems",
		"kerberos.remind_before": "wie lange vor dem Ende des Tickets daran erinnert wird",
		"kerberos.renew":         "ob ein Ticket erneuert wird, das bald endet",
		"kerberos.remember":      "Principal, dessen Kennwort der Schlüsselbund für eine stille Anmeldung hält",
		"access.same_user_only":  "nur Programme desselben Benutzers dürfen den Proxy nutzen",
		"access.allow_users":     "weitere Benutzer, deren Programme den Proxy nutzen dürfen",
		"access.connect_ports":   "Ports, zu denen Tunnel führen dürfen, etwa \"443\" oder \"8000-8999\"; leer: alle",
		"ui.notify_valid":        "melden, wenn ein Ticket gültig wird",
		"ui.notify_expiring":     "melden, bevor ein Ticket endet",
		"ui.notify_expired":      "melden, wenn ein Ticket geendet hat",
		"ui.language":            "Sprache der Texte; leer: die des Systems",
	},
}

func (l language) doc(k settings.KeyInfo) string {
	if s, ok := l.docs[k.Key]; ok {
		return s
	}
	return k.Doc
}

func (l language) explain(k settings.KeyInfo) string {
	lines := []string{l.doc(k), "", l.byDefault + tomlValue(k.Default)}
	switch {
	case k.Kind == settings.KindBool:
		lines = append(lines, l.enabled, l.disabled)
	case mayBeEmpty(k):
		lines = append(lines, l.empty)
	}
	return strings.Join(append(lines, l.further), "\n")
}

func adml(l language) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="utf-8"?>
<!-- Made from the list of settings; see internal/settings/templates_test.go. -->
<policyDefinitionResources xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions" revision="1.0" schemaVersion="1.0">
  <displayName>Kerbpass</displayName>
  <description>%s</description>
  <resources>
    <stringTable>
      <string id="SUPPORTED">%s</string>
      <string id="kerbpass">Kerbpass</string>
      <string id="recommended">%s</string>
`, esc(l.about), esc(l.supported), esc(l.recommended))
	seen := map[string]bool{}
	for _, k := range settings.Keys() {
		for _, c := range k.Choices {
			if !seen[c] {
				fmt.Fprintf(&b, "      <string id=\"choice_%s\">%s</string>\n", c, c)
			}
			seen[c] = true
		}
	}
	for _, k := range settings.Keys() {
		fmt.Fprintf(&b, "      <string id=\"%s\">%s</string>\n", id(k.Key), esc(k.Key+": "+l.doc(k)))
		fmt.Fprintf(&b, "      <string id=\"%s_explain\">%s</string>\n", id(k.Key), esc(l.explain(k)))
	}
	b.WriteString("    </stringTable>\n    <presentationTable>\n")
	for _, layer := range layers {
		for _, k := range settings.Keys() {
			name := layer.prefix + id(k.Key)
			switch {
			case k.Kind == settings.KindBool:
				continue
			case k.Kind == settings.KindList:
				fmt.Fprintf(&b, "      <presentation id=\"%s\"><listBox refId=\"%s\">%s</listBox></presentation>\n", name, name, k.Key)
			case len(k.Choices) > 0:
				fmt.Fprintf(&b, "      <presentation id=\"%s\"><dropdownList refId=\"%s\" noSort=\"true\" defaultItem=\"0\">%s</dropdownList></presentation>\n", name, name, k.Key)
			default:
				value := ""
				if k.Kind == settings.KindDuration {
					value = "<defaultValue>" + strings.Trim(tomlValue(k.Default), `"`) + "</defaultValue>"
				}
				fmt.Fprintf(&b, "      <presentation id=\"%s\"><textBox refId=\"%s\"><label>%s</label>%s</textBox></presentation>\n", name, name, k.Key, value)
			}
		}
	}
	b.WriteString("    </presentationTable>\n  </resources>\n</policyDefinitionResources>\n")
	return b.String()
}

// tomlValue is a default as the settings file has it.
func tomlValue(v any) string {
	switch v := v.(type) {
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case time.Duration:
		return fmt.Sprintf("%q", strings.TrimSuffix(v.String(), "0s"))
	case bool:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%q", v)
}

// example is what an administrator may begin with.
func example(k settings.KeyInfo) any {
	if k.Key == "upstream" {
		return []string{"http://proxy.corp.example:8080"}
	}
	return k.Default
}

func policyTOML() string {
	var b strings.Builder
	b.WriteString(`# Policies of Kerbpass: put this into /etc/kerbpass/policy.toml, or parts of it
# into /etc/kerbpass/policy.d/NAME.toml, of which the last in the order of their
# names is the strongest. Root must own each file and every folder on the way,
# and nobody else may write to them. A change counts at once.
# The values below are those that count without any setting, upstream's is made
# up: a list of no proxies at all cannot be locked.

# Values here nobody can change; they beat flags and the environment.
[locked]
`)
	lines := func() {
		for _, k := range settings.Keys() {
			fmt.Fprintf(&b, "# %s = %s # %s\n", k.Key, tomlValue(example(k)), k.Doc)
		}
	}
	lines()
	b.WriteString("\n# Values here count until the person chooses otherwise.\n[preset]\n")
	lines()
	return b.String()
}

const domain = "io.github.kerbpass.kerbpass"

func mobileconfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Made from the list of settings; see internal/settings/templates_test.go.
     Take the marks of a comment from what is to be set, and give both payloads
     UUIDs of your own. The values are those that count without any setting,
     but for upstream's: a list of no proxies at all cannot be locked. -->
<plist version="1.0">
<dict>
	<key>PayloadType</key><string>Configuration</string>
	<key>PayloadVersion</key><integer>1</integer>
	<key>PayloadIdentifier</key><string>%[1]s.policy</string>
	<key>PayloadUUID</key><string>6B1F8E0C-5372-4B0C-9D8B-2F6A1C7E5372</string>
	<key>PayloadDisplayName</key><string>Kerbpass</string>
	<key>PayloadScope</key><string>System</string>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadType</key><string>%[1]s</string>
			<key>PayloadVersion</key><integer>1</integer>
			<key>PayloadIdentifier</key><string>%[1]s.policy.settings</string>
			<key>PayloadUUID</key><string>0D4C2A77-5372-4E52-8A0F-9C3B6E1D5372</string>
			<key>PayloadDisplayName</key><string>Kerbpass</string>

			<!-- Values here nobody can change. -->
`, domain)
	lines := func(indent string) {
		for _, k := range settings.Keys() {
			// Two dashes may not stand in a comment.
			fmt.Fprintf(&b, "%s<!-- %s -->\n", indent, esc(strings.ReplaceAll(k.Doc, "--", "")))
			fmt.Fprintf(&b, "%s<!-- <key>%s</key>%s -->\n", indent, k.Key, plistValue(example(k)))
		}
	}
	lines("\t\t\t")
	b.WriteString("\n\t\t\t<!-- Values here count until the person chooses otherwise. -->\n\t\t\t<key>Recommended</key>\n\t\t\t<dict>\n")
	lines("\t\t\t\t")
	b.WriteString("\t\t\t</dict>\n\t\t</dict>\n\t</array>\n</dict>\n</plist>\n")
	return b.String()
}

func plistValue(v any) string {
	switch v := v.(type) {
	case []string:
		s := "<array>"
		for _, e := range v {
			s += "<string>" + esc(e) + "</string>"
		}
		return s + "</array>"
	case bool:
		return fmt.Sprintf("<%v/>", v)
	case time.Duration:
		return "<string>" + strings.TrimSuffix(v.String(), "0s") + "</string>"
	}
	return "<string>" + esc(fmt.Sprint(v)) + "</string>"
}

// The templates are XML, every name they use is there, and the key is the one
// that the program reads.
func TestTemplatesHoldTogether(t *testing.T) {
	admx := read(t, packaging+"windows/policy/Kerbpass.admx")
	for _, name := range []string{"windows/policy/Kerbpass.admx", "windows/policy/en-US/Kerbpass.adml", "windows/policy/de-DE/Kerbpass.adml", "macos/kerbpass.mobileconfig"} {
		d := xml.NewDecoder(strings.NewReader(read(t, packaging+name)))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	for _, folder := range []string{"en-US", "de-DE"} {
		adml := read(t, packaging+"windows/policy/"+folder+"/Kerbpass.adml")
		uses := regexp.MustCompile(`\$\((string|presentation)\.(\w+)\)`).FindAllStringSubmatch(admx, -1)
		if len(uses) < 4*len(settings.Keys()) {
			t.Errorf("%d uses of names", len(uses))
		}
		for _, use := range uses {
			if !strings.Contains(adml, fmt.Sprintf("<%s id=%q>", use[1], use[2])) {
				t.Errorf("%s has no %s %s", folder, use[1], use[2])
			}
		}
		for _, ref := range regexp.MustCompile(`refId="(\w+)"`).FindAllStringSubmatch(adml, -1) {
			if !strings.Contains(admx, fmt.Sprintf(` id="%s"`, ref[1])) {
				t.Errorf("%s refers to %s, which the .admx does not have", folder, ref[1])
			}
		}
	}
	windows := read(t, "../policy/system_windows.go")
	if !strings.Contains(windows, "policies = `Software\\Policies`") || !strings.Contains(windows, "ours = `Kerbpass`") || !strings.Contains(admx, `key="Software\Policies\Kerbpass"`) {
		t.Error("the template writes to another key than the program reads")
	}
	if !strings.Contains(read(t, "../policy/system_darwin.go"), `domain = "`+domain+`"`) {
		t.Error("the profile is for another domain than the program reads")
	}
}

// Uncommented, the example is a policy that changes nothing but who decides.
func TestTemplateOfLinux(t *testing.T) {
	text := regexp.MustCompile(`(?m)^# ([a-z_.]+ = )`).ReplaceAllString(read(t, packaging+"linux/policy.toml"), "$1")
	for _, table := range []string{"[locked]", "[preset]"} {
		_, rest, _ := strings.Cut(text, table+"\n")
		part, _, _ := strings.Cut(rest, "\n\n")
		// The settings file takes the same keys, so it can judge them.
		snap := open(t, part, settings.Config{}).Snapshot()
		for _, k := range settings.Keys() {
			if snap.Origins[k.Key].Source != settings.SourceFile {
				t.Errorf("%s: %s comes from %s", table, k.Key, snap.Origins[k.Key].Source)
			}
		}
		if len(snap.Problems) > 0 {
			t.Errorf("%s: %v", table, snap.Problems)
		}
	}
}
