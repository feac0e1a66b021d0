package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
)

// noProxy keeps programs from asking the proxy for their own machine.
const noProxy = "localhost,127.0.0.1,::1"

// proxyVars are the variables for other programs, in both letter cases: some
// read one, some the other. Node reads them when it is told to.
func proxyVars(addr string) (vars [][2]string) {
	u := "http://" + addr
	for _, v := range [][2]string{{"HTTP_PROXY", u}, {"HTTPS_PROXY", u}, {"NO_PROXY", noProxy}} {
		vars = append(vars, v, [2]string{strings.ToLower(v[0]), v[1]})
	}
	return append(vars, [2]string{"NODE_USE_ENV_PROXY", "1"})
}

// jvmOptions are the same for Java, which reads no such variables.
func jvmOptions(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("-Dhttp.proxyHost=%[1]s -Dhttp.proxyPort=%[2]s -Dhttps.proxyHost=%[1]s -Dhttps.proxyPort=%[2]s -Dhttp.nonProxyHosts=localhost|127.*|[::1]", host, port), nil
}

// execVars are the variables of a program started by exec. JAVA_TOOL_OPTIONS is
// among them, for every JVM reads it, but not among those for a whole shell:
// each JVM says on standard error that it was read. What it says already stays,
// and wins if it names a proxy.
func execVars(addr, javaOptions string) ([][2]string, error) {
	jvm, err := jvmOptions(addr)
	if err != nil {
		return nil, err
	}
	vars := proxyVars(addr)
	if strings.Contains(javaOptions, ".proxyHost") || strings.Contains(javaOptions, "java.net.useSystemProxies") {
		return vars, nil
	}
	return append(vars, [2]string{"JAVA_TOOL_OPTIONS", strings.TrimSpace(javaOptions + " " + jvm)}), nil
}

func (c *cli) cmdEnv(ctx context.Context) *cobra.Command {
	var shell string
	var unset bool
	cmd := c.addJSON(&cobra.Command{
		Use: "env", Short: "Print the settings that send other programs through Kerbpass", Args: cobra.NoArgs,
		Example: "  eval \"$(kerbpass env)\"\n  kerbpass env --shell fish | source\n  kerbpass env --shell powershell | Invoke-Expression",
		RunE: func(*cobra.Command, []string) error {
			addr, running, err := c.listenAddr(ctx)
			if err != nil {
				return err
			}
			if shell == "" {
				shell = c.defaultShell()
			}
			if c.json {
				vars := map[string]string{}
				for _, v := range proxyVars(addr) {
					vars[v[0]] = v[1]
				}
				return c.printJSON(vars)
			}
			text, err := renderEnv(shell, addr, unset)
			if err != nil {
				return err
			}
			fmt.Fprint(c.out, text)
			if !running && !unset {
				fmt.Fprintln(c.err, "kerbpass: the helper is not running yet. Start it: kerbpass run")
			}
			return nil
		},
	})
	cmd.RegisterFlagCompletionFunc("shell", cobra.FixedCompletions([]string{"sh", "fish", "powershell", "cmd", "jvm", "dotenv", "pac"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().StringVar(&shell, "shell", "", "sh, fish, powershell, cmd, jvm or dotenv; pac prints the address for browsers (default: your shell)")
	cmd.Flags().BoolVar(&unset, "unset", false, "print what takes the settings back")
	return cmd
}

func (c *cli) defaultShell() string {
	if runtime.GOOS == "windows" {
		return "powershell"
	}
	if s, _ := c.lookupEnv("SHELL"); filepath.Base(s) == "fish" {
		return "fish"
	}
	return "sh"
}

// listenAddr is where programs reach the helper: the running one's first
// address, or the settings'.
func (c *cli) listenAddr(ctx context.Context) (addr string, running bool, err error) {
	var r report
	err = c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Get(ctx, "/v1/status", nil, &r) })
	listen := r.Proxy.Listen
	running = err == nil
	if errors.Is(err, control.ErrNotRunning) {
		store, e := c.readable()
		if e != nil {
			return "", false, e
		}
		listen, err = store.Snapshot().Listen, nil
	}
	if err != nil {
		return "", false, err
	}
	if len(listen) == 0 {
		return "", false, failf(exitFailed, "Set listen in the settings.", "There is no address to listen on.")
	}
	return listen[0], running, nil
}

// renderEnv is pure: the lines for one shell.
func renderEnv(shell, addr string, unset bool) (string, error) {
	var b strings.Builder
	vars := proxyVars(addr)
	each := func(set, clear string) {
		for _, v := range vars {
			if unset {
				fmt.Fprintf(&b, clear+"\n", v[0])
			} else {
				fmt.Fprintf(&b, set+"\n", v[0], v[1])
			}
		}
	}
	switch shell {
	case "sh", "bash", "zsh", "dash", "ksh":
		each("export %s='%s'", "unset %s")
	case "fish":
		each("set -gx %s '%s'", "set -e %s")
	case "powershell":
		each("$Env:%s = '%s'", "Remove-Item Env:%s -ErrorAction SilentlyContinue")
	case "cmd":
		each(`set "%s=%s"`, `set "%s="`)
	case "dotenv":
		each("%s=%s", "%s=")
	case "jvm":
		jvm, err := jvmOptions(addr)
		if err != nil {
			return "", err
		}
		if unset {
			b.WriteString("-Dhttp.proxyHost= -Dhttps.proxyHost= -Dhttp.nonProxyHosts=\n")
			break
		}
		b.WriteString(jvm + "\n")
	case "pac":
		if !unset {
			fmt.Fprintf(&b, "http://%s/kerbpass.pac\n", addr)
		}
	default:
		return "", failf(exitUsage, "Use sh, fish, powershell, cmd, jvm, dotenv or pac.", "The shell %q is not known.", shell)
	}
	return b.String(), nil
}

func (c *cli) cmdExec(ctx context.Context) *cobra.Command {
	return &cobra.Command{
		Use: "exec -- CMD ARG…", Short: "Run a program whose requests go through Kerbpass", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			addr, running, err := c.listenAddr(ctx)
			if err != nil {
				return err
			}
			if !running {
				return notRunning()
			}
			java, _ := c.lookupEnv("JAVA_TOOL_OPTIONS")
			vars, err := execVars(addr, java)
			if err != nil {
				return err
			}
			return execProgram(ctx, args, withVars(vars))
		},
	}
}
