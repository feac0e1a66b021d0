// Command manual writes the manual pages of the program, one per command:
//
//	go run ./packaging/manual PROGRAM VERSION FOLDER
//
// It asks the program for its help, so that no page says what the program does
// not, and the program holds nothing for it. Help that it does not understand
// is an error, and never a page with a gap. The date is SOURCE_DATE_EPOCH's.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := generate(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		panic("manual: " + err.Error()) // nobody but packaging/linux/build runs this
	}
}

func generate(args []string, epoch string) error {
	if len(args) != 3 {
		return errors.New("usage: manual PROGRAM VERSION FOLDER")
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	b := book{version: args[1], date: time.Unix(seconds, 0).UTC().Format(time.DateOnly), dir: args[2]}
	b.help = func(words []string) (string, error) {
		cmd := exec.Command(args[0], append(slices.Clone(words[1:]), "--help")...)
		cmd.Env = []string{"LANG=C.UTF-8", "HOME=/nonexistent"}
		out, err := cmd.Output()
		return string(out), err
	}
	return b.write([]string{"kerbpass"}, "", "")
}

// A book is all pages of one version.
type book struct {
	version, date, dir string
	help               func(words []string) (string, error)
}

// write makes the page of the command that words are, and those below it.
func (b book) write(words []string, short, above string) error {
	text, err := b.help(words)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(words, " "), err)
	}
	c, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(words, " "), err)
	}
	if short == "" {
		short = c.about
	}
	name := strings.Join(words, "-")
	if err := os.WriteFile(filepath.Join(b.dir, name+".1"), []byte(b.page(words, short, above, c)), 0o644); err != nil {
		return err
	}
	for _, sub := range c.commands {
		if sub.name == "help" {
			continue
		}
		if err := b.write(append(slices.Clone(words), sub.name), sub.text, name); err != nil {
			return err
		}
	}
	return nil
}

// A command is what its help says.
type command struct {
	about    string // in front of everything, may have several lines
	usage    []string
	examples string
	commands []item
	flags    []item
	global   []item
}

// An item is a command or flag, and what it does.
type item struct{ name, text string }

var itemLine = regexp.MustCompile(`^ {2,6}(\S.*?) {2,}(\S.*)$`)

// parse reads what cobra's template prints.
func parse(help string) (c command, err error) {
	about, rest, found := strings.Cut(help, "\nUsage:\n")
	if !found {
		return c, errors.New("no usage in its help")
	}
	c.about = strings.TrimSpace(about)
	heading := "Usage:"
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || strings.HasPrefix(line, `Use "`):
			continue
		case !strings.HasPrefix(line, " "):
			heading = line
			continue
		}
		var items *[]item
		switch heading {
		case "Usage:":
			c.usage = append(c.usage, strings.TrimSpace(line))
			continue
		case "Examples:":
			c.examples += strings.TrimPrefix(line, "  ") + "\n"
			continue
		case "Available Commands:":
			items = &c.commands
		case "Flags:":
			items = &c.flags
		case "Global Flags:":
			items = &c.global
		default:
			return c, fmt.Errorf("unknown heading %q in its help", heading)
		}
		m := itemLine.FindStringSubmatch(line)
		if m == nil {
			return c, fmt.Errorf("under %q: %q is not understood", heading, line)
		}
		*items = append(*items, item{m[1], m[2]})
	}
	return c, nil
}

// exits and places go into the page of the program itself.
const exits = `.SH EXIT STATUS
.TP
0
done, or healthy
.TP
1
failed
.TP
2
wrong usage
.TP
3
no usable ticket
.TP
4
the helper is not running
.TP
5
the proxy path does not work (status, doctor)
.SH FILES
.TP
.I $XDG_CONFIG_HOME/kerbpass/config.toml
the settings; ~/.config if the variable is not set
.TP
.I /etc/kerbpass/policy.toml
what the administrator presets or locks
`

// page renders one command in the macros of man(7).
func (b book) page(words []string, short, above string, c command) string {
	var p strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&p, format+"\n", args...) }
	items := func(heading string, list []item) {
		if len(list) == 0 {
			return
		}
		line(".SH %s", heading)
		for _, i := range list {
			line(".TP\n.B %s\n%s", escape(i.name), text(i.text))
		}
	}
	name := strings.Join(words, "-")
	line(`.TH "%s" 1 %s "Kerbpass %s" "User Commands"`, escape(strings.ToUpper(name)), b.date, escape(b.version))
	line(".SH NAME\n%s \\- %s", escape(name), escape(short))
	line(".SH SYNOPSIS")
	for i, usage := range c.usage {
		if i > 0 {
			line(".br")
		}
		command := strings.Join(words, " ")
		line(".B %s\n%s", escape(command), text(strings.TrimSpace(strings.TrimPrefix(usage, command))))
	}
	if c.about != short {
		line(".SH DESCRIPTION\n%s", text(c.about))
	}
	items("COMMANDS", c.commands)
	items("OPTIONS", c.flags)
	items("GLOBAL OPTIONS", c.global)
	if c.examples != "" {
		line(".SH EXAMPLES\n.EX\n%s\n.EE", text(strings.TrimSuffix(c.examples, "\n")))
	}
	if above == "" {
		p.WriteString(exits)
	}
	var see []string
	if above != "" {
		see = append(see, above)
	}
	for _, sub := range c.commands {
		if sub.name != "help" {
			see = append(see, name+"-"+sub.name)
		}
	}
	line(".SH SEE ALSO")
	for i, other := range see {
		comma := ","
		if i == len(see)-1 {
			comma = ""
		}
		line(".BR %s (1)%s", escape(other), comma)
	}
	return p.String()
}

var escapes = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`)

// escape keeps groff from reading s as more than characters; text also keeps
// the beginning of a line from being read as a request.
func escape(s string) string { return escapes.Replace(s) }

func text(s string) string {
	var lines []string
	for l := range strings.SplitSeq(escape(s), "\n") {
		if strings.HasPrefix(l, ".") {
			l = `\&` + l
		}
		lines = append(lines, l)
	}
	return strings.Join(lines, "\n")
}
