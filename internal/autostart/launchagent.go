package autostart

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
)

// A LaunchAgent is a program that macOS starts for a user. Without KeepUp it
// belongs to the desktop: it starts at the graphical login only, and is not
// started again when it ends.
type LaunchAgent struct {
	Label   string
	Command []string
	KeepUp  bool // start it again when it fails, but not when it was told to end
}

// Plist renders the file that launchd reads at the next login.
func (a LaunchAgent) Plist() string {
	var b strings.Builder
	b.WriteString(xml.Header +
		`<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n" +
		"<plist version=\"1.0\">\n<dict>\n")
	entry := func(key, value string) { fmt.Fprintf(&b, "\t<key>%s</key>\n\t%s\n", key, value) }
	entry("Label", plistString(a.Label))
	var words strings.Builder
	for _, arg := range a.Command {
		words.WriteString("\t\t" + plistString(arg) + "\n")
	}
	entry("ProgramArguments", "<array>\n"+words.String()+"\t</array>")
	entry("RunAtLoad", "<true/>")
	if a.KeepUp {
		entry("KeepAlive", "<dict>\n\t\t<key>SuccessfulExit</key>\n\t\t<false/>\n\t</dict>")
	} else {
		entry("LimitLoadToSessionType", plistString("Aqua"))
	}
	entry("ProcessType", plistString("Interactive")) // not slowed down in the background
	b.WriteString("</dict>\n</plist>\n")
	return b.String()
}

func plistString(s string) string {
	var b strings.Builder
	b.WriteString("<string>")
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	b.WriteString("</string>")
	return b.String()
}

// launchd keeps the entries of macOS. Loading the agent at once (launchctl
// bootstrap) would start a second copy of the running program; launchd reads
// the folder at the next login by itself.
type launchd struct {
	agent               LaunchAgent
	userFile, adminFile string
}

func newLaunchd(cfg Config) (*launchd, error) {
	home, err := homeFolder(cfg.LookupEnv)
	if err != nil {
		return nil, err
	}
	file := filepath.Join("/Library/LaunchAgents", cfg.ID+".plist")
	return &launchd{
		agent:     LaunchAgent{Label: cfg.ID, Command: cfg.Command},
		userFile:  filepath.Join(home, file),
		adminFile: file,
	}, nil
}

func (l *launchd) user() (found, error)  { return readPlist(l.userFile) }
func (l *launchd) admin() (found, error) { return readPlist(l.adminFile) }
func (l *launchd) shadows() bool         { return false }
func (l *launchd) write() error          { return replaceEntry(l.userFile, l.agent.Plist()) }
func (l *launchd) remove() error         { return removeEntry(l.userFile) }

func (l *launchd) hide() error {
	if err := l.remove(); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", l.adminFile, ErrByAdmin)
}

func readPlist(path string) (found, error) {
	text, present, err := readEntry(path)
	if err != nil || !present {
		return found{where: path}, err
	}
	f := parsePlist(text)
	f.where, f.present = path, true
	return f, nil
}

// parsePlist reads what matters here of a file that anybody may have written.
// Of a binary one no command is understood.
func parsePlist(text string) found {
	var doc struct {
		Dict struct {
			Items []plistItem `xml:",any"`
		} `xml:"dict"`
	}
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		return found{}
	}
	var f found
	values := map[string]plistItem{}
	for i := 0; i+1 < len(doc.Dict.Items); i += 2 {
		values[doc.Dict.Items[i].Text] = doc.Dict.Items[i+1]
	}
	for _, word := range values["ProgramArguments"].Items {
		f.command = append(f.command, word.Text)
	}
	switch {
	case values["Disabled"].XMLName.Local == "true":
		f.off = "turned off by its key Disabled"
	case values["RunAtLoad"].XMLName.Local != "true":
		f.off = "turned off: it has no key RunAtLoad"
	}
	return f
}

// plistItem is a value, or the key before it.
type plistItem struct {
	XMLName xml.Name
	Text    string      `xml:",chardata"`
	Items   []plistItem `xml:",any"`
}
