package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

func (c *cli) cmdStatus(ctx context.Context) *cobra.Command {
	return c.addJSON(&cobra.Command{
		Use: "status", Short: "Show the ticket, the proxy and the last authentication", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return c.status(ctx) },
	})
}

func (c *cli) status(ctx context.Context) error {
	var r report
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
		return cl.Get(ctx, "/v1/status", nil, &r)
	})
	switch {
	case errors.Is(err, control.ErrNotRunning):
		if r, err = c.localReport(ctx); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if c.json {
		if err := c.printJSON(r); err != nil {
			return err
		}
	} else {
		fmt.Fprint(c.out, r.text(time.Now()))
	}
	if code := r.healthCode(); code == exitNotRunning && !c.json {
		return notRunning()
	} else if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// localReport reads tickets and settings in this process.
func (c *cli) localReport(ctx context.Context) (report, error) {
	store, err := c.store(nil, nil)
	if err != nil {
		return report{}, err
	}
	snap := store.Snapshot()
	cur := openTickets(ticketConfigOf(snap), ticket.Config{})
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := baseReport(ctx, cur, snap, store.Path())
	r.Proxy.UpstreamSource = c.system.source(r.Proxy.UpstreamSource)
	return r, nil
}

func (c *cli) cmdKerberos(ctx context.Context) *cobra.Command {
	return c.addJSON(&cobra.Command{
		Use: "kerberos on|off|status", Short: "Switch Kerberos at the upstream on or off", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"on", "off", "status"},
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "on", "off":
				return c.switchKerberos(ctx, args[0] == "on")
			case "status":
				return c.kerberosStatus(ctx)
			}
			return failf(exitUsage, "Use: kerbpass kerberos on, off or status.", "%q is not known here.", args[0])
		},
	})
}

func (c *cli) switchKerberos(ctx context.Context, on bool) error {
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
		return cl.Post(ctx, "/v1/kerberos", switchRequest{on}, nil)
	})
	if errors.Is(err, control.ErrNotRunning) {
		var store *settings.Store
		if store, err = c.store(nil, nil); err == nil {
			err = setKerberos(store, on)
		}
	}
	return err
}

func (c *cli) kerberosStatus(ctx context.Context) error {
	var r report
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Get(ctx, "/v1/status", nil, &r) })
	missing := errors.Is(err, control.ErrNotRunning)
	if missing {
		var store *settings.Store
		if store, err = c.readable(); err == nil {
			snap := store.Snapshot()
			r.Proxy.Kerberos, r.Settings = snap.KerberosEnabled, snap.Describe()
		}
	}
	if err != nil {
		return err
	}
	d := r.Settings["kerberos.enabled"]
	if c.json {
		err = c.printJSON(map[string]any{"enabled": r.Proxy.Kerberos, "source": d.Source, "locked": d.Locked})
	} else {
		fmt.Fprintf(c.out, "%s (from %s)\n", onOff(r.Proxy.Kerberos), d.Source)
	}
	if err == nil && missing {
		return notRunning()
	}
	return err
}

func setKerberos(store *settings.Store, on bool) error {
	return settingsError(store.Edit(func(e *settings.Edit) error { return e.Set("kerberos.enabled", on) }))
}
