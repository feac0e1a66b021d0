package sysproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// macOS is asked through its program scutil, which prints a dictionary:
//
//	<dictionary> {
//	  ExceptionsList : <array> {
//	    0 : *.local
//	  }
//	  HTTPEnable : 1
//	  __SCOPED__ : <dictionary> {
//	…
//
// What stands at the top is what counts for programs in general; __SCOPED__
// repeats it for each interface.

const (
	scutilPath  = "/usr/sbin/scutil"
	scutilKey   = "State:/Network/Global/Proxies"
	scutilDepth = 16
)

// A plist is a dictionary or an array that scutil printed: text, lists and
// dictionaries by their keys.
type plist struct {
	text map[string]string
	list map[string][]string
}

// parseScutil reads the dictionary at the top. Lines that do not have the
// indentation of their level belong to a text of several lines (a script) and
// are skipped. Not ok means that there is no dictionary.
func parseScutil(out string) (p plist, ok bool) {
	p = plist{map[string]string{}, map[string][]string{}}
	lines := strings.Split(strings.ReplaceAll(out, "\r\n", "\n"), "\n")
	for len(lines) > 0 && strings.TrimSpace(lines[0]) != "<dictionary> {" {
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return p, false
	}
	path := []string{""} // of what is open, the top first
	for _, line := range lines[1:] {
		indent := strings.Repeat("  ", len(path))
		if line == indent[2:]+"}" {
			if path = path[:len(path)-1]; len(path) == 0 {
				return p, true
			}
			continue
		}
		entry, ok := strings.CutPrefix(line, indent)
		if !ok || entry == "" || entry[0] == ' ' {
			continue
		}
		key, value, ok := strings.Cut(entry, " : ")
		if !ok {
			continue
		}
		if value == "<dictionary> {" || value == "<array> {" {
			if path = append(path, key); len(path) > scutilDepth {
				return p, false
			}
			continue
		}
		switch len(path) {
		case 1:
			p.text[key] = value
		case 2:
			p.list[path[1]] = append(p.list[path[1]], value)
		}
	}
	return p, false // it ended half-way
}

func scutilSetting(f *finding, out string) []Setting {
	p, ok := parseScutil(out)
	if !ok {
		f.problem("what scutil prints is not understood")
		return f.done()
	}
	on := func(name string) bool { return p.text[name] == "1" }
	address := func(kind string) string {
		host := p.text[kind+"Proxy"]
		switch port := p.text[kind+"Port"]; {
		case !on(kind+"Enable") || strings.TrimSpace(host) == "":
			return ""
		case port == "" || port == "0":
			return strings.TrimSuffix(joined(host, ""), ":")
		default:
			return joined(host, port)
		}
	}
	f.serve([]string{address("HTTPS")}, []string{address("HTTP")})
	f.socks = f.socks || address("SOCKS") != ""
	f.AutoDetect = on("ProxyAutoDiscoveryEnable")
	if on("ProxyAutoConfigEnable") {
		if url := p.text["ProxyAutoConfigURLString"]; url != "" {
			f.script(url)
		} else {
			f.problem("the configuration script stands in the settings themselves, which cannot be used")
		}
	}
	f.NoProxy = p.list["ExceptionsList"]
	if on("ExcludeSimpleHostnames") {
		f.NoProxy = append(slices.Clip(f.NoProxy), "<local>")
	}
	f.Off = len(f.Upstreams) == 0 && len(f.problems) == 0 && !f.socks && !f.AutoDetect && f.PAC == ""
	return f.done()
}

// scutil asks the program.
func scutil(ctx context.Context, c Config, program string) []Setting {
	f := c.finding(SourceMacOS, "scutil --proxy")
	out, err := spawn(ctx, c.childEnv(), program, "--proxy")
	if err != nil {
		f.failed("scutil", err)
		return f.done()
	}
	return scutilSetting(f, string(out))
}

// watchScutil keeps one scutil waiting, which prints when the proxies change.
func watchScutil(ctx context.Context, c Config, program string, report func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env, cmd.WaitDelay = c.childEnv(), spawnWait
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cancel()
	// The pipe stays open: at its end scutil ends.
	if _, err := io.WriteString(in, "n.add "+scutilKey+"\nn.watch\n"); err != nil {
		return err
	}
	report()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), scutilKey) {
			report()
		}
	}
	return errors.New("scutil has ended")
}
