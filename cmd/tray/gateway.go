package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
)

// gatewayRequest changes who may use the gateway.
type gatewayRequest struct {
	Add    string `json:"add"`    // NAME:SHA-256 of the secret
	Remove string `json:"remove"` // NAME
}

// gatewayAnswer is "gateway list --json".
type gatewayAnswer struct {
	Enabled bool     `json:"enabled"`
	Listen  []string `json:"listen"`
	Allow   []string `json:"allow"`
	Clients []string `json:"clients"`
}

func (c *cli) cmdGateway(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use: "gateway", Short: "Show or edit which containers and virtual machines may use the proxy",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return failf(exitUsage, "Use: kerbpass gateway list|add|remove", "A command is missing.")
		},
	}
	cmd.AddCommand(
		c.addJSON(&cobra.Command{Use: "list", Short: "Show where the gateway listens and who may use it", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return c.listGateway(ctx)
		}}),
		c.addJSON(&cobra.Command{Use: "add NAME", Short: "Admit a client, and print the proxy address with its secret, once", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return c.addGuest(ctx, args[0])
		}}),
		&cobra.Command{Use: "remove NAME", Short: "Admit a client no longer", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return c.changeGateway(ctx, gatewayRequest{Remove: args[0]})
		}},
	)
	return cmd
}

func (c *cli) gateway(ctx context.Context) (g gatewayAnswer, err error) {
	err = c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Get(ctx, "/v1/gateway", nil, &g) })
	if errors.Is(err, control.ErrNotRunning) {
		var store *settings.Store
		if store, err = c.readable(); err == nil {
			g = gatewayOf(store.Snapshot())
		}
	}
	return g, err
}

func gatewayOf(snap *settings.Snapshot) gatewayAnswer {
	_, names := gateRules(snap)
	return gatewayAnswer{snap.GatewayEnabled, append([]string{}, snap.GatewayListen...), append([]string{}, snap.GatewayAllow...), names}
}

func (c *cli) listGateway(ctx context.Context) error {
	g, err := c.gateway(ctx)
	switch {
	case err != nil:
		return err
	case c.json:
		return c.printJSON(g)
	}
	none := func(list []string) string {
		if len(list) == 0 {
			return "none"
		}
		return strings.Join(list, ", ")
	}
	fmt.Fprintf(c.out, "Gateway   %s\nAddresses %s\nNetworks  %s\nClients   %s\n", onOff(g.Enabled), none(g.Listen), none(g.Allow), none(g.Clients))
	return nil
}

// addGuest makes a secret of 256 bits. It is printed and kept nowhere; the
// settings have its checksum.
func (c *cli) addGuest(ctx context.Context, name string) error {
	g, err := c.gateway(ctx)
	if err != nil {
		return err
	}
	var raw [32]byte
	rand.Read(raw[:])
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	sum := sha256.Sum256([]byte(secret))
	if err := c.changeGateway(ctx, gatewayRequest{Add: name + ":" + hex.EncodeToString(sum[:])}); err != nil {
		return err
	}
	urls := []string{}
	for _, addr := range g.Listen {
		if ap, err := netip.ParseAddrPort(addr); err == nil && ap.Addr().IsUnspecified() {
			addr = fmt.Sprintf("HOST:%d", ap.Port())
		}
		urls = append(urls, "http://"+name+":"+secret+"@"+addr)
	}
	if c.json {
		return c.printJSON(map[string]any{"name": name, "secret": secret, "proxies": urls})
	}
	for _, u := range urls {
		fmt.Fprintln(c.out, u)
	}
	if len(urls) == 0 {
		fmt.Fprintln(c.out, secret)
	}
	fmt.Fprintln(c.err, "kerbpass: This is shown once. Whoever has it, and is in one of the networks, uses your ticket.")
	if !g.Enabled || len(g.Listen) == 0 || len(g.Allow) == 0 {
		fmt.Fprintln(c.err, "kerbpass: The gateway admits nobody yet: set enabled, listen and allow below [gateway] in the settings, and start Kerbpass again.")
	}
	return nil
}

func (c *cli) changeGateway(ctx context.Context, req gatewayRequest) error {
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Post(ctx, "/v1/gateway", req, nil) })
	if errors.Is(err, control.ErrNotRunning) {
		var store *settings.Store
		if store, err = c.store(nil, nil); err == nil {
			err = editGateway(store, req)
		}
	}
	return err
}

func editGateway(store *settings.Store, req gatewayRequest) error {
	have := store.Snapshot().GatewayClients
	of := func(name string) int {
		return slices.IndexFunc(have, func(s string) bool { return strings.HasPrefix(s, name+":") })
	}
	if name, _, _ := strings.Cut(req.Add, ":"); req.Add != "" && of(name) >= 0 {
		return failf(exitFailed, "Remove it first, or take another name: kerbpass gateway remove "+name, "%s is admitted already.", name)
	}
	if req.Remove != "" && of(req.Remove) < 0 {
		return failf(exitFailed, "See: kerbpass gateway list", "There is no client %q.", req.Remove)
	}
	return settingsError(store.Edit(func(e *settings.Edit) error {
		if req.Add != "" {
			return e.Add("gateway.clients", req.Add)
		}
		return e.Remove("gateway.clients", have[of(req.Remove)])
	}))
}
