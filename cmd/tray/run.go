package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
)

// runFlags are the settings that a command line can give.
type runFlags struct {
	listen, upstream []string
	bypass, noProxy  string
	pac              string
	kerberos         bool
	values           map[string]any // by settings key; only what was given
}

func (r *runFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&r.listen, "listen", nil, "loopback `address:port` to listen on (repeatable)")
	f.BoolVar(&r.kerberos, "kerberos", true, "authenticate at the upstream with Kerberos")
	r.registerRoute(cmd)
}

// registerRoute registers those that decide a route.
func (r *runFlags) registerRoute(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&r.upstream, "upstream", nil, "corporate proxy, as `http://host:port` (repeatable, in order of preference)")
	f.StringVar(&r.pac, "pac", "", "configuration script (PAC) that names the corporate proxy: `URL|FILE`, or auto")
	f.StringVar(&r.bypass, "bypass", "", "hosts that go direct, exact names, comma-separated `list`")
	f.StringVar(&r.noProxy, "no-proxy", "", "hosts that go direct, suffix rules as NO_PROXY, comma-separated `list`")
}

// given keeps what was said, so that everything else comes from elsewhere.
func (r runFlags) given(cmd *cobra.Command) runFlags {
	r.values = map[string]any{}
	for name, v := range map[string]struct {
		key   string
		value any
	}{
		"listen": {"listen", r.listen}, "upstream": {"upstream", r.upstream}, "bypass": {"bypass.exact", splitList(r.bypass)},
		"no-proxy": {"no_proxy", r.noProxy}, "pac": {"pac", r.pac}, "kerberos": {"kerberos.enabled", r.kerberos},
	} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			r.values[v.key] = v.value
		}
	}
	return r
}

func (c *cli) cmdRun(ctx context.Context) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use: "run", Short: "Run the proxy without a tray, logging to standard error", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runProxy(ctx, flags.given(cmd)) },
	}
	flags.register(cmd)
	return cmd
}

func (c *cli) runProxy(ctx context.Context, flags runFlags) error {
	a, err := c.openApp(flags)
	if err != nil {
		return err
	}
	return a.run(ctx)
}

// errAlreadyRunning is what a second start says.
var errAlreadyRunning = failf(0, "See: kerbpass status", "Kerbpass is already running for this user.")

// openApp builds the app for run and for the desktop.
func (c *cli) openApp(flags runFlags) (*app, error) {
	log, err := c.logger()
	if err != nil {
		return nil, err
	}
	store, err := c.store(flags.values, log)
	if err != nil {
		return nil, err
	}
	if err := flagProblem(store.Snapshot()); err != nil {
		return nil, err
	}
	path, err := control.Path(c.lookupEnv)
	if err != nil {
		return nil, failf(exitFailed, noChannelHint, "No place for the control channel: %v.", err)
	}
	keyring, err := newKeyring()
	if err != nil {
		return nil, failf(exitFailed, "Start it by its full path.", "This program cannot find itself: %v.", err)
	}
	l, err := control.Listen(path)
	if errors.Is(err, control.ErrRunning) {
		return nil, errAlreadyRunning
	}
	if err != nil {
		return nil, failf(exitFailed, "Check what is named there. "+noChannelHint, "The control channel cannot be opened: %v.", err)
	}
	a, err := newApp(appConfig{store: store, log: log, control: l, keyring: keyring, logins: keyring, system: c.system, policy: c.policySource()})
	if err != nil {
		l.Close()
		return nil, err
	}
	a.services = append(a.services, a.watchSystem)
	return a, nil
}

// flagProblem makes a value on the command line that cannot be used an error:
// whoever typed it is there to correct it. A list goes on without the entries
// that are refused, because one of them only sends a host through the proxy.
func flagProblem(snap *settings.Snapshot) error {
	for _, p := range snap.Problems {
		if p.Source == settings.SourceFlag && !p.Warning && p.Key != "bypass.exact" && p.Key != "no_proxy" {
			return failf(exitUsage, "See: kerbpass run --help", "%s.", strings.TrimSuffix(p.Text, "."))
		}
	}
	return nil
}
