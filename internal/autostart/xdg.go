package autostart

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// xdg keeps entries as the Desktop Application Autostart Specification says:
// a file of the user, and one of the administrator that it replaces.
type xdg struct {
	cfg        Config
	userFile   string
	adminFiles []string // the first that is there counts
}

// unstartable are the characters that no quoting brings through every desktop
// in a program's path: the Desktop Entry Specification excludes "=", GLib and
// systemd look for a file with "%%" in its name where "%" is meant, and systemd
// refuses the others.
const unstartable = "=%\\$`\"'"

func newXDG(cfg Config) (*xdg, error) {
	home, err := configHome(cfg.LookupEnv)
	if err != nil {
		return nil, err
	}
	if i := strings.IndexAny(cfg.Command[0], unstartable); i >= 0 {
		return nil, fmt.Errorf("desktops start no program with %c in its path: %s", cfg.Command[0][i], cfg.Command[0])
	}
	dirs, _ := cfg.LookupEnv("XDG_CONFIG_DIRS")
	if dirs == "" {
		dirs = "/etc/xdg"
	}
	file := filepath.Join("autostart", cfg.ID+".desktop")
	x := &xdg{cfg: cfg, userFile: filepath.Join(home, file)}
	for _, dir := range filepath.SplitList(dirs) {
		if filepath.IsAbs(dir) {
			x.adminFiles = append(x.adminFiles, filepath.Join(dir, file))
		}
	}
	return x, nil
}

// configHome is the user's configuration folder. The specification has
// relative paths ignored.
func configHome(lookupEnv func(string) (string, bool)) (string, error) {
	if dir, _ := lookupEnv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := homeFolder(lookupEnv)
	return filepath.Join(home, ".config"), err
}

func homeFolder(lookupEnv func(string) (string, bool)) (string, error) {
	home, _ := lookupEnv("HOME")
	if !filepath.IsAbs(home) {
		return "", errors.New("the user's home folder is not known: HOME is not set")
	}
	return home, nil
}

func (x *xdg) user() (found, error) { return readDesktopEntry(x.userFile) }

func (x *xdg) admin() (found, error) {
	for _, path := range x.adminFiles {
		if f, err := readDesktopEntry(path); f.present || err != nil {
			return f, err
		}
	}
	return found{}, nil
}

func (x *xdg) shadows() bool { return true }
func (x *xdg) write() error  { return replaceEntry(x.userFile, desktopEntry(x.cfg, shown)) }
func (x *xdg) remove() error { return removeEntry(x.userFile) }
func (x *xdg) hide() error   { return replaceEntry(x.userFile, desktopEntry(x.cfg, hidden)) }

func readDesktopEntry(path string) (found, error) {
	text, present, err := readEntry(path)
	if err != nil || !present {
		return found{where: path}, err
	}
	f := parseDesktopEntry(text)
	f.where, f.present = path, true
	return f, nil
}

type visibility bool

const (
	shown  visibility = false
	hidden visibility = true // as if the file were not there, nor the administrator's
)

// desktopEntry renders the autostart file.
func desktopEntry(cfg Config, v visibility) string {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			b.WriteString(key + "=" + value + "\n")
		}
	}
	b.WriteString("[Desktop Entry]\n")
	line("Type", "Application")
	line("Name", escapeValue(cfg.Name))
	line("Comment", escapeValue(cfg.Comment))
	line("TryExec", escapeValue(cfg.Command[0])) // once the program is removed, the entry does nothing
	line("Exec", escapeValue(quoteExec(cfg.Command)))
	line("Icon", escapeValue(cfg.Icon))
	line("Terminal", "false")
	line("StartupNotify", "false")
	if v == hidden {
		line("Hidden", "true")
	}
	return b.String()
}

// escapeValue keeps backslashes from being read as the format's escapes. The
// other characters that need one are control characters, which [New] refuses.
func escapeValue(s string) string { return strings.ReplaceAll(s, `\`, `\\`) }

var execEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`, `%`, `%%`)

// quoteExec leaves argv as it found it.
func quoteExec(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = `"` + execEscapes.Replace(arg) + `"`
	}
	return strings.Join(quoted, " ")
}

// parseDesktopEntry reads what matters here of a file that anybody may have
// written.
func parseDesktopEntry(text string) found {
	keys := mainGroup(text)
	f := found{command: splitExec(keys["Exec"])}
	switch {
	case keys["Hidden"] == "true":
		f.off = "turned off by Hidden=true"
	case keys["X-GNOME-Autostart-enabled"] == "false":
		f.off = "turned off by X-GNOME-Autostart-enabled=false"
	case keys["Exec"] == "":
		f.off = "it names no program"
	}
	return f
}

// mainGroup returns the values of the group [Desktop Entry].
func mainGroup(text string) map[string]string {
	keys, inside := map[string]string{}, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, isPair := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "["):
			inside = line == "[Desktop Entry]"
		case inside && isPair && !strings.HasPrefix(line, "#"):
			keys[strings.TrimSpace(key)] = unescapeValue(strings.TrimSpace(value))
		}
	}
	return keys
}

var valueEscapes = strings.NewReplacer(`\\`, `\`, `\s`, " ", `\n`, "\n", `\t`, "\t", `\r`, "\r")

func unescapeValue(s string) string { return valueEscapes.Replace(s) }

// splitExec undoes quoteExec. Field codes (%f, %U), which stand for nothing at
// login, are left out. It returns nil for what is not well formed.
func splitExec(s string) []string {
	var argv []string
	var arg strings.Builder
	started, quoted := false, false
	end := func() {
		if text := arg.String(); started && !isFieldCode(text) {
			argv = append(argv, strings.ReplaceAll(text, "%%", "%"))
		}
		arg.Reset()
		started = false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 == len(s):
			return nil
		case c == '\\':
			i++
			arg.WriteByte(s[i])
			started = true
		case c == '"':
			quoted, started = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\n'):
			end()
		default:
			arg.WriteByte(c)
			started = true
		}
	}
	if quoted {
		return nil
	}
	end()
	return argv
}

func isFieldCode(s string) bool {
	return len(s) == 2 && s[0] == '%' && strings.Contains("fFuUick", s[1:])
}
