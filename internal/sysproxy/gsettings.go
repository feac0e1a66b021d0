package sysproxy

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// GNOME's settings are read with gsettings and not from the database of dconf:
// only it knows profiles, an administrator's databases and locks, a
// distribution's overrides of the schema, and backends other than dconf.

const (
	gnomeSchema = "org.gnome.system.proxy"
	spawnLimit  = 5 * time.Second
	spawnOutput = 1 << 20 // bytes that are taken of what a program prints
	spawnWait   = 200 * time.Millisecond
)

// gnomeDesktops are those whose programs go by GNOME's proxy setting.
var gnomeDesktops = []string{"gnome", "gnome-classic", "unity", "budgie", "x-cinnamon", "cinnamon", "pantheon", "mate"}

func (c Config) desktopIs(names ...string) bool {
	for d := range strings.SplitSeq(strings.ToLower(c.env("XDG_CURRENT_DESKTOP")), ":") {
		if slices.Contains(names, d) {
			return true
		}
	}
	return false
}

// childEnv is all that a program we ask gets of the environment.
func (c Config) childEnv() (env []string) {
	for _, name := range []string{"HOME", "PATH", "USER", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_DATA_DIRS", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME",
		"XDG_CURRENT_DESKTOP", "DBUS_SESSION_BUS_ADDRESS", "DCONF_PROFILE", "GSETTINGS_BACKEND", "GSETTINGS_SCHEMA_DIR", "GIO_EXTRA_MODULES", "GIO_MODULE_DIR"} {
		if v, ok := c.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, "LC_ALL=C.UTF-8")
}

// gnome asks gsettings. A desktop that is not GNOME's counts only if a proxy
// was set there.
func gnome(ctx context.Context, c Config) []Setting {
	if c.env("HOME") == "" {
		return nil
	}
	f := c.finding(SourceGNOME, gnomeSchema)
	using := c.desktopIs(gnomeDesktops...)
	program, err := exec.LookPath("gsettings")
	if err != nil {
		if using {
			f.problem("the program gsettings, which reads them, is not installed")
		}
		return f.done()
	}
	out, err := spawn(ctx, c.childEnv(), program, "list-recursively", gnomeSchema)
	defer clear(out) // a password stands there too
	if err != nil {
		if using || !errors.As(err, new(*exec.ExitError)) { // else without the schema: no GNOME
			f.failed("gsettings", err)
		}
		return f.done()
	}
	return gnomeSetting(f, parseGsettings(out), using)
}

// spawn runs a program with a time limit and returns what it prints.
func spawn(ctx context.Context, env []string, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, spawnLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.WaitDelay = env, spawnWait
	out := limited{left: spawnOutput}
	cmd.Stdout = &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errLate
	}
	return out.b.Bytes(), err
}

// limited keeps the beginning of what is written to it.
type limited struct {
	b    bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.b.Write(p[:n])
	l.left -= n
	return len(p), nil
}

// gnomeKeys are the keys we look at; the user name and password are not.
var gnomeKeys = []string{"mode", "autoconfig-url", "ignore-hosts", "http host", "http port", "http use-authentication", "https host", "https port", "socks host", "socks port"}

// parseGsettings reads lines "schema key value". Of the schema only what comes
// below [gnomeSchema] is kept: "http host".
func parseGsettings(out []byte) map[string]string {
	values := map[string]string{}
	for line := range bytes.Lines(out) {
		rest, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte(gnomeSchema))
		if !ok {
			continue
		}
		for _, key := range gnomeKeys {
			schema, name := "", key
			if child, of, ok := strings.Cut(key, " "); ok {
				schema, name = "."+child, of
			}
			if value, ok := bytes.CutPrefix(rest, []byte(schema+" "+name+" ")); ok {
				values[key] = string(value)
			}
		}
	}
	return values
}

func gnomeSetting(f *finding, values map[string]string, using bool) []Setting {
	text := func(key string) string { s, _, _ := variantString(values[key]); return s }
	of := func(kind string) string {
		host, port := text(kind+" host"), strings.TrimSpace(values[kind+" port"])
		if strings.TrimSpace(host) == "" || port == "0" || port == "" {
			return ""
		}
		return joined(host, port)
	}
	switch mode := text("mode"); mode {
	case "none":
		f.Off = using
	case "manual":
		f.serve([]string{of("https")}, []string{of("http")})
		f.socks = f.socks || of("socks") != ""
		if values["http use-authentication"] == "true" {
			f.problem("the user name and password are left out")
		}
		if len(f.Upstreams) == 0 && !f.socks && len(f.problems) == 0 {
			f.problem("the mode is manual, but no proxy is set")
		}
		f.NoProxy = variantStrings(values["ignore-hosts"])
	case "auto":
		if url := text("autoconfig-url"); strings.TrimSpace(url) != "" {
			f.script(url)
		} else {
			f.AutoDetect = true
		}
	default:
		f.problem("the mode %s is not known", shown(mode))
	}
	return f.done()
}

// variantString reads a string in GVariant's text format at the start of s.
func variantString(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '\'' && s[0] != '"' {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); {
		switch c := s[i]; {
		case c == s[0]:
			return b.String(), s[i+1:], true
		case c != '\\':
			b.WriteByte(c)
			i++
		case i+1 == len(s):
			return "", s, false
		default:
			digits := map[byte]int{'u': 4, 'U': 8}[s[i+1]]
			if digits > 0 {
				if i+2+digits > len(s) {
					return "", s, false
				}
				r, err := strconv.ParseUint(s[i+2:i+2+digits], 16, 32)
				if err != nil || r > utf8.MaxRune {
					return "", s, false
				}
				b.WriteRune(rune(r))
				i += 2 + digits
				continue
			}
			if at := strings.IndexByte("abfnrtv", s[i+1]); at >= 0 {
				b.WriteByte("\a\b\f\n\r\t\v"[at])
			} else {
				b.WriteByte(s[i+1])
			}
			i += 2
		}
	}
	return "", s, false
}

// variantStrings reads a list of strings, "@as []" too.
func variantStrings(s string) (all []string) {
	s = strings.TrimSpace(strings.TrimPrefix(s, "@as "))
	s, ok := strings.CutPrefix(s, "[")
	for ok {
		var item string
		if item, s, ok = variantString(strings.TrimLeft(s, ", ")); ok {
			all = append(all, item)
		}
	}
	return all
}
