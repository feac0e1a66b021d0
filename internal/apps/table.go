package apps

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A program is one row of the table.
type program struct {
	name, title string
	commands    []string             // any of them in PATH: it is installed; none: that cannot be told
	folder      func(*Apps) string   // or this folder is there
	plan        func(*Apps) plan     // nil: it has no file of its own
	hint        func(*Apps) string   // without a plan: by hand; nil too: by environment
	note        func(a *Apps) string // what else to know
}

// noProxy keeps a program's requests to its own machine away from Kerbpass.
const noProxy = "localhost,127.0.0.1,::1"

var programs = []program{
	{name: "git", title: "Git", commands: []string{"git"}, plan: func(a *Apps) plan {
		file := a.home(".gitconfig")
		if f := a.env("GIT_CONFIG_GLOBAL"); f != "" {
			file = f
		} else if x := a.config("git", "config"); !there(file) && there(x) {
			file = x
		}
		return plan{file: file, format: gitFormat, set: []setting{{key: "http.proxy", value: a.url()}}}
	}},
	{name: "npm", title: "npm", commands: []string{"npm"}, plan: func(a *Apps) plan {
		file := a.home(".npmrc")
		if f := a.env("NPM_CONFIG_USERCONFIG"); f != "" {
			file = f
		}
		return plan{file: file, format: npmFormat, set: []setting{{key: "proxy", value: a.url()}, {key: "https-proxy", value: a.url()}, {key: "noproxy", value: noProxy, optional: true}},
			clash: others("http-proxy", "http_proxy", "https_proxy")}
	}},
	{name: "pnpm", title: "pnpm", commands: []string{"pnpm"}, plan: func(a *Apps) plan {
		file := a.config("pnpm", "rc")
		switch {
		case a.env("XDG_CONFIG_HOME") != "":
		case a.cfg.OS == "darwin":
			file = a.home("Library", "Preferences", "pnpm", "rc")
		case a.cfg.OS == "windows":
			file = a.appData("LOCALAPPDATA", "Local", "pnpm", "config", "rc")
		}
		return plan{file: file, format: npmFormat, set: []setting{{key: "proxy", value: a.url()}, {key: "https-proxy", value: a.url()}, {key: "noproxy", value: noProxy, optional: true}},
			clash: others("http-proxy")}
	}},
	{name: "yarn", title: "Yarn 1", commands: []string{"yarn", "yarnpkg"}, plan: func(a *Apps) plan {
		return plan{file: a.home(".yarnrc"), format: yarnFormat, set: []setting{{key: "proxy", value: a.url()}, {key: "https-proxy", value: a.url()}}}
	}},
	{name: "yarn-berry", title: "Yarn 2 and later", commands: []string{"yarn", "yarnpkg"}, plan: func(a *Apps) plan {
		return plan{file: a.home(".yarnrc.yml"), format: yaml{}, set: []setting{{key: "httpProxy", value: a.url()}, {key: "httpsProxy", value: a.url()}}}
	}},
	{name: "pip", title: "pip", commands: []string{"pip", "pip3"}, plan: func(a *Apps) plan {
		file := a.config("pip", "pip.conf")
		switch old := a.home(".pip", "pip.conf"); {
		case a.env("PIP_CONFIG_FILE") != "":
			file = a.env("PIP_CONFIG_FILE")
		case a.cfg.OS == "windows":
			file = a.appData("APPDATA", "Roaming", "pip", "pip.ini")
		case a.cfg.OS == "darwin" && there(a.home("Library", "Application Support", "pip")):
			file = a.home("Library", "Application Support", "pip", "pip.conf")
		case !there(file) && there(old):
			file = old
		}
		return plan{file: file, format: pipFormat, set: []setting{{key: "global.proxy", value: a.url()}}, clash: others("install.proxy", "download.proxy")}
	}},
	{name: "uv", title: "uv", commands: []string{"uv"}},
	{name: "conda", title: "conda, mamba", commands: []string{"conda", "mamba", "micromamba"}, plan: func(a *Apps) plan {
		file := a.home(".condarc")
		if f := a.env("CONDARC"); f != "" {
			file = f
		}
		return plan{file: file, format: yaml{}, set: []setting{{key: "proxy_servers", value: "\n  http: " + a.url() + "\n  https: " + a.url()}}}
	}},
	{name: "cargo", title: "Cargo", commands: []string{"cargo"}, plan: func(a *Apps) plan {
		dir := a.home(".cargo")
		if d := a.env("CARGO_HOME"); d != "" {
			dir = d
		}
		file := filepath.Join(dir, "config.toml")
		if old := filepath.Join(dir, "config"); there(old) { // it wins over the new name
			file = old
		}
		return plan{file: file, format: tomlFile{}, set: []setting{{key: "http.proxy", value: a.url()}}, clash: others("https.proxy")}
	}},
	{name: "go", title: "Go", commands: []string{"go"}},
	{name: "maven", title: "Maven", commands: []string{"mvn"}, plan: func(a *Apps) plan {
		var set []setting
		for _, protocol := range []string{"http", "https"} {
			set = append(set, setting{key: proxyElement, list: true, value: fmt.Sprintf("<proxy><id>kerbpass-%[1]s</id><active>true</active><protocol>%[1]s</protocol><host>%[2]s</host><port>%[3]s</port><nonProxyHosts>%[4]s</nonProxyHosts></proxy>",
				protocol, a.host, a.port, javaNoProxy)})
		}
		return plan{file: a.home(".m2", "settings.xml"), format: mavenFile{}, set: set, clash: activeProxy}
	}},
	{name: "gradle", title: "Gradle", commands: []string{"gradle"}, folder: func(a *Apps) string { return a.home(".gradle") }, plan: func(a *Apps) plan {
		file := a.home(".gradle", "gradle.properties")
		if d := a.env("GRADLE_USER_HOME"); d != "" {
			file = filepath.Join(d, "gradle.properties")
		}
		var set []setting
		for _, scheme := range []string{"http", "https"} {
			set = append(set, setting{key: "systemProp." + scheme + ".proxyHost", value: a.host}, setting{key: "systemProp." + scheme + ".proxyPort", value: a.port})
		}
		return plan{file: file, format: gradleFormat, set: append(set, setting{key: "systemProp.http.nonProxyHosts", value: javaNoProxy, optional: true})}
	}},
	{name: "jvm", title: "Java programs", commands: []string{"java"}, hint: func(*Apps) string { return `export JAVA_TOOL_OPTIONS="$(kerbpass env --shell jvm)"` },
		note: func(*Apps) string {
			return "Java reads properties, not the usual variables. kerbpass exec sets them for one program."
		}},
	{name: "docker", title: "Docker client", commands: []string{"docker"}, plan: func(a *Apps) plan {
		file := a.home(".docker", "config.json")
		if d := a.env("DOCKER_CONFIG"); d != "" {
			file = filepath.Join(d, "config.json")
		}
		p := plan{file: file, format: jsonc{}, set: []setting{{key: "proxies/default/httpProxy", value: a.url()}, {key: "proxies/default/httpsProxy", value: a.url()}, {key: "proxies/default/noProxy", value: noProxy, optional: true}}}
		if strings.HasPrefix(a.host, "127.") || a.host == "::1" || a.host == "localhost" {
			p.refuse = "Containers would get this setting, and " + a.host + " is the container itself there. Give the address at which containers reach Kerbpass: --address HOST:PORT."
		}
		return p
	}, note: func(*Apps) string { return "It is for containers and builds; images are pulled by the Docker daemon." }},
	{name: "docker-daemon", title: "Docker daemon", commands: []string{"dockerd"}, hint: func(a *Apps) string {
		return fmt.Sprintf("as root, in /etc/docker/daemon.json: {\"proxies\": {\"http-proxy\": %q, \"https-proxy\": %[1]q, \"no-proxy\": %q}}", a.url(), noProxy)
	}, note: rootNote},
	{name: "apt", title: "apt", commands: []string{"apt-get"}, hint: func(a *Apps) string {
		return fmt.Sprintf("as root, in /etc/apt/apt.conf.d/95kerbpass: Acquire::http::Proxy %q; Acquire::https::Proxy %[1]q;", a.url())
	}, note: func(*Apps) string {
		return `It fetches as the user _apt: add allow_users = ["root", "_apt"] under [access] in the settings.`
	}},
	{name: "dnf", title: "dnf", commands: []string{"dnf", "dnf5", "yum"}, hint: func(a *Apps) string { return "as root, below [main] in /etc/dnf/dnf.conf: proxy=" + a.url() }, note: rootNote},
	{name: "curl", title: "curl", commands: []string{"curl"}, plan: func(a *Apps) plan {
		file := a.home(".curlrc")
		if d := a.env("CURL_HOME"); d != "" {
			file = filepath.Join(d, ".curlrc")
		} else if x := a.config(".curlrc"); a.env("XDG_CONFIG_HOME") != "" && there(x) {
			file = x
		} else if old := a.appData("APPDATA", "Roaming", "_curlrc"); a.cfg.OS == "windows" && there(old) {
			file = old
		}
		return plan{file: file, format: curlFormat, set: []setting{{key: "proxy", value: a.url()}, {key: "noproxy", value: noProxy, optional: true}}, clash: others("socks5", "socks5-hostname", "socks4", "socks4a", "preproxy")}
	}},
	{name: "wget", title: "Wget", commands: []string{"wget"}, plan: func(a *Apps) plan {
		file := a.home(".wgetrc")
		if f := a.env("WGETRC"); f != "" {
			file = f
		}
		return plan{file: file, format: wgetFormat, set: []setting{{key: "http-proxy", value: a.url()}, {key: "https-proxy", value: a.url()}, {key: "no-proxy", value: noProxy, optional: true}}, clash: others("use-proxy", "httpproxy", "httpsproxy")}
	}},
	{name: "vscode", title: "Visual Studio Code", commands: []string{"code"}, folder: func(a *Apps) string { return filepath.Dir(codeSettings(a)) }, plan: func(a *Apps) plan {
		return plan{file: codeSettings(a), format: jsonc{comments: true}, set: []setting{{key: "http.proxy", value: a.url()}}}
	}},
	{name: "claude", title: "Claude Code", commands: []string{"claude"}, folder: func(a *Apps) string { return a.home(".claude") }, plan: func(a *Apps) plan {
		file := a.home(".claude", "settings.json")
		if d := a.env("CLAUDE_CONFIG_DIR"); d != "" {
			file = filepath.Join(d, "settings.json")
		}
		return plan{file: file, format: jsonc{}, set: []setting{{key: "env/HTTP_PROXY", value: a.url()}, {key: "env/HTTPS_PROXY", value: a.url()}, {key: "env/NO_PROXY", value: noProxy, optional: true}}}
	}},
	{name: "copilot", title: "Copilot CLI, Codex, Gemini and the like", commands: []string{"copilot", "codex", "gemini"}, note: func(*Apps) string {
		return "Those on Node need Node 22.21 or 24 and later to take variables, unless they read them themselves."
	}},
	{name: "node", title: "Node", commands: []string{"node"}, note: func(*Apps) string {
		return "fetch takes the variables from Node 22.21 and 24 on, with NODE_USE_ENV_PROXY=1, which env and exec set. Older ones need a library in the program."
	}},
	{name: "powershell", title: "PowerShell profile", commands: []string{"pwsh", "powershell"}, plan: func(a *Apps) plan {
		file := a.config("powershell", "Microsoft.PowerShell_profile.ps1")
		if a.cfg.OS == "windows" {
			file = a.home("Documents", "PowerShell", "Microsoft.PowerShell_profile.ps1")
			if old := a.home("Documents", "WindowsPowerShell", "Microsoft.PowerShell_profile.ps1"); !there(filepath.Dir(file)) && there(filepath.Dir(old)) {
				file = old
			}
		}
		return plan{file: file, format: shellBlock, set: a.variables("$Env:%s = '%s'"), clash: assigns}
	}},
	{name: "environment.d", title: "systemd user environment", commands: []string{"systemctl"}, plan: func(a *Apps) plan {
		if a.cfg.OS != "linux" {
			return plan{format: envFormat}
		}
		var set []setting
		for _, v := range a.vars() {
			set = append(set, setting{key: v[0], value: v[1]})
		}
		return plan{file: a.config("environment.d", "kerbpass.conf"), format: envFormat, set: set}
	}, note: func(a *Apps) string {
		if a.cfg.OS != "linux" {
			return ""
		}
		return "For programs that the desktop starts, from the next login on. Then name the upstream in the settings: Kerbpass does not take it from these variables."
	}},
	{name: "shell", title: "Shell profile", plan: func(a *Apps) plan {
		shell, _ := a.cfg.LookupEnv("SHELL")
		switch name := filepath.Base(shell); {
		case a.cfg.OS == "windows":
			return plan{format: shellBlock}
		case name == "fish":
			return plan{file: a.config("fish", "conf.d", "kerbpass.fish"), format: noBlock, set: a.variables("set -gx %s '%s'"), clash: assigns}
		case name == "zsh":
			dir := a.cfg.Home
			if d := a.env("ZDOTDIR"); d != "" {
				dir = d
			}
			return plan{file: filepath.Join(dir, ".zshrc"), format: shellBlock, set: a.variables("export %s='%s'"), clash: assigns}
		case name == "bash" && a.cfg.OS == "darwin":
			return plan{file: a.home(".bash_profile"), format: shellBlock, set: a.variables("export %s='%s'"), clash: assigns}
		case name == "bash":
			return plan{file: a.home(".bashrc"), format: shellBlock, set: a.variables("export %s='%s'"), clash: assigns}
		}
		return plan{file: a.home(".profile"), format: shellBlock, set: a.variables("export %s='%s'"), clash: assigns}
	}},
}

const javaNoProxy = "localhost|127.*|[::1]"

func rootNote(*Apps) string {
	return `It runs as root: add allow_users = ["root"] under [access] in the settings.`
}

func codeSettings(a *Apps) string {
	switch a.cfg.OS {
	case "darwin":
		return a.home("Library", "Application Support", "Code", "User", "settings.json")
	case "windows":
		return a.appData("APPDATA", "Roaming", "Code", "User", "settings.json")
	}
	return a.config("Code", "User", "settings.json")
}

// vars are the variables of "kerbpass env"; on Windows letter case does not
// count.
func (a *Apps) vars() (all [][2]string) {
	for _, v := range [][2]string{{"HTTP_PROXY", a.url()}, {"HTTPS_PROXY", a.url()}, {"NO_PROXY", noProxy}} {
		all = append(all, v)
		if a.cfg.OS != "windows" {
			all = append(all, [2]string{strings.ToLower(v[0]), v[1]})
		}
	}
	return append(all, [2]string{"NODE_USE_ENV_PROXY", "1"})
}

// variables are the same as lines of a shell.
func (a *Apps) variables(form string) (set []setting) {
	for _, v := range a.vars() {
		set = append(set, setting{list: true, value: fmt.Sprintf(form, v[0], v[1])})
	}
	return set
}

// others reports keys that would be in the way.
func others(keys ...string) func([]entry) string {
	return func(entries []entry) string {
		for _, e := range entries {
			if slices.Contains(keys, e.Key) {
				return fmt.Sprintf("%s is %s.", e.Key, hidden(e.Value))
			}
		}
		return ""
	}
}

// activeProxy reports a proxy of Maven's that is in use.
func activeProxy(entries []entry) string {
	for _, e := range entries {
		if e.Key == proxyElement && !strings.Contains(e.Value, "<active>false</active>") {
			return "There is a <proxy> that is active."
		}
	}
	return ""
}

var assignment = regexp.MustCompile(`(?i)^(?:(?:export|declare -x|typeset -x|set -\w+|setx?|local)\s+)*\$?(?:env:)?(https?_proxy|all_proxy)\b\s*[= ]\s*['"]?([^'"]*)`)

// assigns reports a line of a shell that sets a proxy. Like the parts of a
// profile that are run only sometimes, it may be missed.
func assigns(entries []entry) string {
	for _, e := range entries {
		for part := range strings.FieldsFuncSeq(e.Value, func(r rune) bool { return r == ';' || r == '&' }) {
			if m := assignment.FindStringSubmatch(strings.TrimSpace(part)); m != nil {
				return fmt.Sprintf("%s is set to %s.", m[1], hidden(strings.TrimSpace(m[2])))
			}
		}
	}
	return ""
}
