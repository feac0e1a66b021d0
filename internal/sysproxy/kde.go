package sysproxy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	kdeFile      = "kioslaverc"
	kdeGroup     = "Proxy Settings"
	kdeFileLimit = 1 << 20
)

// kdeFiles are the files that KConfig joins, the strongest last: the
// administrator's, then the user's.
func kdeFiles(c Config) (files []string) {
	dirs := c.env("XDG_CONFIG_DIRS")
	if dirs == "" {
		dirs = "/etc/xdg"
	}
	for dir := range strings.SplitSeq(dirs, ":") {
		if filepath.IsAbs(dir) {
			files = append(files, filepath.Join(dir, kdeFile))
		}
	}
	slices.Reverse(files) // of the list, the first is the strongest
	if home := configHome(c); home != "" {
		files = append(files, filepath.Join(home, kdeFile))
	}
	return files
}

// configHome is the user's configuration folder, "" if it is not known.
func configHome(c Config) string {
	if dir := c.env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	if home := c.env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config")
	}
	return ""
}

func kde(_ context.Context, c Config) []Setting {
	var values kconfig
	using := c.desktopIs("kde")
	f := c.finding(SourceKDE, kdeFile)
	for _, path := range kdeFiles(c) {
		text, err := readSmall(path)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				f.problem("%s cannot be read", path)
			}
			continue
		}
		f.Name = path
		values.merge(text)
	}
	return kdeSetting(f, &values, using)
}

// readSmall reads a regular file and does not wait for a pipe.
func readSmall(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() || st.Size() > kdeFileLimit {
		return "", errors.New("not a file of settings")
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, kdeFileLimit))
	return string(text), err
}

func kdeSetting(f *finding, values *kconfig, using bool) []Setting {
	get := func(key string) string {
		text, ok := values.get(key, f.c.env)
		if !ok {
			f.problem("%s is made by a command, which is not run", key)
		}
		return text
	}
	kind := strings.TrimSpace(get("ProxyType"))
	switch kind {
	case "", "0":
		f.Off = using
		return f.done()
	case "1", "4":
		value := get
		if kind == "4" {
			value = func(key string) string { return named(get(key), f.c.env) }
		}
		f.NoProxy = fields(value("NoProxyFor"), ", ")
		if reversed, _ := strconv.ParseBool(strings.ToLower(get("ReversedException"))); reversed {
			f.problem("its proxy is for some hosts only (ReversedException), so it is not used")
			return f.done()
		}
		f.serve([]string{kdeAddress(value("httpsProxy"))}, []string{kdeAddress(value("httpProxy"))})
		f.socks = f.socks || value("socksProxy") != ""
		if len(f.Upstreams) == 0 && !f.socks && len(f.problems) == 0 {
			f.problem("a proxy is switched on, but none is set")
		}
	case "2":
		if url := get("Proxy Config Script"); strings.TrimSpace(url) != "" {
			f.script(url)
		} else {
			f.problem("a configuration script is switched on, but none is named")
		}
	case "3":
		f.AutoDetect = true
	default:
		f.problem("the ProxyType %s is not known", shown(kind))
	}
	return f.done()
}

// kdeAddress reads "http://host 8080", as KDE writes it, and the usual forms.
func kdeAddress(s string) string {
	if f := strings.Fields(s); len(f) == 2 {
		return joined(f[0], f[1])
	}
	return s
}

// named returns what the first variable of a list holds that is set.
func named(list string, env func(string) string) string {
	for _, name := range fields(list, ", ") {
		if v := env(name); v != "" {
			return v
		}
	}
	return ""
}

// A kconfig is the group [kdeGroup] of files that were merged, the strongest
// last, unless an earlier one is marked [$i].
type kconfig struct {
	all    bool // nothing may be changed any more
	values map[string]kvalue
}

type kvalue struct {
	text          string
	expand, fixed bool
}

func (k *kconfig) merge(text string) {
	if k.all {
		return
	}
	if k.values == nil {
		k.values = map[string]kvalue{}
	}
	here := map[string]kvalue{}
	deleted := map[string]bool{}
	group, fixed := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			name, flags := kdeMarks(line, true)
			if name == "" && strings.Contains(flags, "i") {
				k.all = k.all || group == ""
				continue
			}
			group = name
			fixed = fixed || group == kdeGroup && strings.Contains(flags, "i")
			continue
		}
		left, value, ok := strings.Cut(line, "=")
		if !ok {
			left = line
		}
		name, flags := kdeMarks(strings.TrimSpace(left), false)
		if group != kdeGroup || name == "" || !ok && !strings.Contains(flags, "d") {
			continue
		}
		here[name] = kvalue{kdeUnescape(strings.TrimSpace(value)), strings.Contains(flags, "e"), strings.Contains(flags, "i")}
		deleted[name] = strings.Contains(flags, "d")
	}
	for name, v := range here {
		if k.values[name].fixed {
			continue
		}
		if deleted[name] {
			delete(k.values, name)
			continue
		}
		k.values[name] = v
	}
	k.all = k.all || fixed
}

// kdeMarks takes "Name[$ei]" or "[Group][$i]" apart. A key in a language,
// "Name[de]", has no name here. Nested groups are joined by "/".
func kdeMarks(s string, isGroup bool) (name, flags string) {
	name, rest, _ := strings.Cut(s, "[")
	var groups []string
	if !isGroup {
		name = strings.TrimSpace(name)
	}
	for rest != "" {
		var mark string
		mark, rest, _ = strings.Cut(rest, "]")
		if f, ok := strings.CutPrefix(mark, "$"); ok {
			flags += f
		} else if !isGroup {
			return "", ""
		} else {
			groups = append(groups, mark)
		}
		_, rest, _ = strings.Cut(rest, "[")
	}
	if isGroup {
		name = strings.Join(groups, "/")
	}
	return name, flags
}

func kdeUnescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch at := strings.IndexByte("sntr", s[i]); {
		case at >= 0:
			b.WriteByte(" \n\t\r"[at])
		case s[i] == 'x' && i+2 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err == nil {
				b.WriteByte(byte(n))
				i += 2
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// get returns a value with the variables in it expanded where the file asks
// for that. Not ok means that a command stands there, which is never run.
func (k *kconfig) get(key string, env func(string) string) (text string, ok bool) {
	v := k.values[key]
	if !v.expand {
		return v.text, true
	}
	if strings.Contains(v.text, "$(") {
		return "", false
	}
	return os.Expand(strings.ReplaceAll(v.text, "$$", "${$}"), func(name string) string {
		if name == "$" {
			return "$"
		}
		return env(name)
	}), true
}
