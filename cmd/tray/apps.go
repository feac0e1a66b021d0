package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kerbpass/internal/apps"
)

func (c *cli) cmdApps(ctx context.Context) *cobra.Command {
	var address string
	list := func(*cobra.Command, []string) error {
		a, err := c.apps(ctx, address, true)
		if err != nil {
			return err
		}
		all, err := a.List()
		if err != nil {
			return appsError(err, apps.Status{})
		}
		if c.json {
			return c.printJSON(all)
		}
		return c.printApps(all)
	}
	cmd := c.addJSON(&cobra.Command{
		Use: "apps", Short: "Show, set and take back other programs' proxy settings", Args: cobra.NoArgs, RunE: list,
		Long: "Shows which programs are sent through Kerbpass by their own settings, sends one (apply), and takes back exactly what was\n" +
			"set (revert). A setting with another value is reported and never overwritten. Programs that take variables need none of\n" +
			"it: see kerbpass env and kerbpass exec.",
		Example: "  kerbpass apps\n  kerbpass apps apply git\n  kerbpass apps revert git\n  kerbpass apps cert pip",
	})
	names := func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return slices.DeleteFunc(apps.Names(), func(n string) bool { return slices.Contains(args, n) }), cobra.ShellCompDirectiveNoFileComp
	}
	edit := func(use, short, allHelp string, told bool, able func(apps.State) bool, do func(*apps.Apps, string) (apps.Status, error)) *cobra.Command {
		var all bool
		sub := c.addJSON(&cobra.Command{Use: use + " NAME…", Short: short, ValidArgsFunction: names})
		sub.Flags().BoolVar(&all, "all", false, allHelp)
		sub.RunE = func(_ *cobra.Command, args []string) error {
			if all != (len(args) == 0) {
				return failf(exitUsage, "Give names as in kerbpass apps, or --all.", "Which program is meant?")
			}
			a, err := c.apps(ctx, address, told)
			if err != nil {
				return err
			}
			if all {
				found, err := a.List()
				if err != nil {
					return appsError(err, apps.Status{})
				}
				for _, s := range found {
					if able(s.State) {
						args = append(args, s.Name)
					}
				}
			}
			return c.editApps(a, args, do)
		}
		return sub
	}
	cmd.AddCommand(
		c.addJSON(&cobra.Command{Use: "list", Short: "Show every program and what it is set to", Args: cobra.NoArgs, RunE: list}),
		edit("apply", "Send programs through Kerbpass", "every program that is here and has no proxy set", true,
			func(s apps.State) bool { return s == apps.Unset || s == apps.Outdated }, (*apps.Apps).Apply),
		edit("revert", "Take back what apply has set", "everything that apply has set", false,
			func(s apps.State) bool { return s == apps.Applied || s == apps.Outdated || s == apps.Changed }, (*apps.Apps).Revert),
		c.addJSON(&cobra.Command{Use: "cert [NAME]", Short: "Say how programs are told to trust a company's certificate authority", Args: cobra.MaximumNArgs(1),
			Long: "Where the company's proxy re-signs https connections, programs must trust the company's certificate authority. This only says how;\nnothing is installed.",
			ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return certNamesOf(apps.CertHelps()), cobra.ShellCompDirectiveNoFileComp
			},
			RunE: func(_ *cobra.Command, args []string) error { return c.printCertHelp(args) }}),
	)
	cmd.PersistentFlags().StringVar(&address, "address", "", "where programs reach Kerbpass, as `HOST:PORT`, if not where it listens")
	return cmd
}

// apps are this user's programs, and where they reach Kerbpass. Taking back works
// without that: told is false, and no program is told the address.
func (c *cli) apps(ctx context.Context, address string, told bool) (*apps.Apps, error) {
	if address == "" {
		addr, _, err := c.listenAddr(ctx)
		if err != nil && told {
			return nil, err
		}
		address = cmp.Or(addr, "127.0.0.1:5372")
	}
	ap, err := netip.ParseAddrPort(address)
	if err == nil && ap.Addr().IsUnspecified() {
		address = net.JoinHostPort(map[bool]string{true: "127.0.0.1", false: "::1"}[ap.Addr().Is4()], fmt.Sprint(ap.Port()))
	}
	if err == nil && ap.Port() == 0 && told {
		return nil, failf(exitFailed, "Set a fixed port in listen.", "Kerbpass gets another port at each start, so programs cannot be told one.")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, failf(exitFailed, "Set HOME.", "There is no home folder: %v.", err)
	}
	record, err := c.stateFile(home, "apps.json")
	if err != nil {
		return nil, err
	}
	a, err := apps.New(apps.Config{OS: runtime.GOOS, Home: home, LookupEnv: c.lookupEnv, LookPath: exec.LookPath, Addr: address, Record: record})
	if err != nil {
		return nil, failf(exitUsage, "Give it as HOST:PORT, such as 172.17.0.1:5372.", "%q is not an address.", address)
	}
	return a, nil
}

// stateFile is a file that must outlive caches and is no setting.
func (c *cli) stateFile(home, name string) (string, error) {
	switch runtime.GOOS {
	case "windows", "darwin":
		dir, err := os.UserConfigDir()
		if v, ok := c.lookupEnv("LOCALAPPDATA"); ok && runtime.GOOS == "windows" {
			dir, err = v, nil
		}
		if err != nil {
			return "", failf(exitFailed, "", "There is no folder for what is remembered: %v.", err)
		}
		return filepath.Join(dir, "kerbpass", name), nil
	}
	dir, ok := c.lookupEnv("XDG_STATE_HOME")
	if !ok || !filepath.IsAbs(dir) {
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "kerbpass", name), nil
}

var appStates = map[apps.State]string{
	apps.Absent: "not installed", apps.Unset: "not set", apps.Applied: "set by Kerbpass", apps.Outdated: "set to an old address", apps.Same: "set, not by Kerbpass",
	apps.Changed: "edited since", apps.Conflict: "another value", apps.ByHand: "by hand", apps.Environment: "takes variables",
}

func (c *cli) printApps(all []apps.Status) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, s := range all {
		more := s.File
		switch s.State {
		case apps.Absent:
			more = ""
		case apps.Environment:
			more = "kerbpass env, kerbpass exec"
		case apps.ByHand:
			if more == "" {
				more = s.Hint
			}
			fallthrough
		case apps.Conflict, apps.Changed, apps.Outdated:
			more = strings.TrimSpace(more + "  " + s.Detail)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, appStates[s.State], more)
	}
	return w.Flush()
}

// editApps goes on after a failure, and ends with the first.
func (c *cli) editApps(a *apps.Apps, names []string, do func(*apps.Apps, string) (apps.Status, error)) error {
	var first error
	done := []apps.Status{}
	for _, name := range names {
		s, err := do(a, name)
		if err != nil {
			err = appsError(err, s)
			if first == nil {
				first = err
			} else {
				fmt.Fprintln(c.err, "kerbpass: "+err.Error())
			}
			continue
		}
		if done = append(done, s); !c.json {
			fmt.Fprintf(c.out, "%s: %s (%s)\n", s.Name, appStates[s.State], s.File)
		}
	}
	if c.json {
		return errors.Join(c.printJSON(done), first)
	}
	return first
}

// appsError is the sentence and the hint for what happened to one program.
func appsError(err error, s apps.Status) *exitError {
	where := ""
	if s.File != "" {
		where = " " + s.File + ":"
	}
	hint := strings.ReplaceAll(s.Hint, "\n", "\n  ")
	switch {
	case errors.Is(err, apps.ErrUnknown):
		return failf(exitUsage, "See: kerbpass apps", "%s.", strings.ToUpper(err.Error()[:1])+err.Error()[1:])
	case errors.Is(err, apps.ErrConflict) && s.State == apps.Changed:
		return failf(exitFailed, "Take it back first: kerbpass apps revert "+s.Name, "%s is left as it is.%s %s", s.Name, where, s.Detail)
	case errors.Is(err, apps.ErrConflict):
		return failf(exitFailed, "If it is not needed any more, remove it, then try again.", "%s is left as it is.%s %s", s.Name, where, s.Detail)
	case errors.Is(err, apps.ErrNotOurs):
		return failf(exitFailed, "See: kerbpass apps", "Kerbpass has set nothing for %s.", s.Name)
	case s.State == apps.Environment:
		return failf(exitFailed, strings.TrimSpace("Use kerbpass env or kerbpass exec. "+s.Detail), "%s takes variables and has no file to set.", s.Name)
	case errors.Is(err, apps.ErrByHand):
		if hint != "" {
			hint = "By hand: " + hint
		}
		return failf(exitFailed, hint, "%s is not edited.%s %s", s.Name, where, s.Detail)
	case s.Name == "":
		return failf(exitFailed, "Correct or remove that file.", "What was set cannot be read: %v.", err)
	}
	return failf(exitFailed, "", "%s: %v.", s.Name, err)
}

func certNamesOf(all []apps.CertHelp) (names []string) {
	for _, h := range all {
		names = append(names, h.Name)
	}
	return names
}

func (c *cli) printCertHelp(args []string) error {
	all := apps.CertHelps()
	if len(args) > 0 {
		all = slices.DeleteFunc(all, func(h apps.CertHelp) bool { return h.Name != args[0] })
		if len(all) == 0 {
			return failf(exitUsage, "Use one of: "+strings.Join(certNamesOf(apps.CertHelps()), ", "), "Nothing is known about %q.", args[0])
		}
	}
	if c.json {
		return c.printJSON(all)
	}
	fmt.Fprintln(c.out, "Get the certificate from your company, and compare its fingerprint with your help desk first. Any one of the ways will do.")
	for _, h := range all {
		fmt.Fprintf(c.out, "\n%s (%s)\n", h.Title, h.Name)
		for _, way := range h.Ways {
			fmt.Fprintln(c.out, "  "+way)
		}
		if h.Note != "" {
			fmt.Fprintln(c.out, "  "+h.Note)
		}
	}
	return nil
}
