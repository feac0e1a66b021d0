package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by release builds; everything else comes from build info.
var release = ""

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
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
			v := map[string]string{"version": version(), "commit": buildSetting("vcs.revision"), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if c.json {
				return c.printJSON(v)
			}
			fmt.Fprintf(c.out, "kerbpass %s (%s, %s)\n", v["version"], v["platform"], v["go"])
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
