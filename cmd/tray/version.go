package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Release builds set these (packaging/compile); for all others, build info says
// what it knows.
var (
	release string // "1.2.3"
	commit  string
	builtAt string // the commit's time in seconds since 1970
)

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// revision is the commit the program was built from, "" if nobody knows.
func revision() string {
	if commit != "" {
		return commit
	}
	return buildSetting("vcs.revision")
}

// builtFrom is the time of that commit, "" if nobody knows.
func builtFrom() string {
	if n, err := strconv.ParseInt(builtAt, 10, 64); err == nil {
		return time.Unix(n, 0).UTC().Format(time.RFC3339)
	}
	return buildSetting("vcs.time")
}

func buildSetting(key string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == key {
				return s.Value
			}
		}
	}
	return ""
}

func (c *cli) cmdVersion(context.Context) *cobra.Command {
	return c.addJSON(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version(), "commit": revision(), "date": builtFrom(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if c.json {
				return c.printJSON(v)
			}
			about := []string{v["platform"], v["go"]}
			if v["commit"] != "" {
				about = append(about, "commit "+v["commit"][:min(12, len(v["commit"]))])
			}
			fmt.Fprintf(c.out, "kerbpass %s (%s)\n", v["version"], strings.Join(about, ", "))
			return nil
		},
	})
}

func (c *cli) cmdCompletion(context.Context) *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Print the completion script of a shell", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Example:   "  source <(kerbpass completion bash)",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.out, true)
			case "zsh":
				return root.GenZshCompletion(c.out)
			case "fish":
				return root.GenFishCompletion(c.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(c.out)
			}
			return failf(exitUsage, "Use bash, zsh, fish or powershell.", "The shell %q is not known.", args[0])
		},
	}
}
