package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/route"
	"kerbpass/internal/settings"
)

// bypassList is the answer of "bypass list --json".
type bypassList struct {
	Entries []string `json:"entries"`
	Source  string   `json:"source"`
	Locked  bool     `json:"locked"`
}

func (c *cli) cmdBypass(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use: "bypass", Short: "Show or edit the exact list of hosts that go direct",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return failf(exitUsage, "Use: kerbpass bypass list|add|remove|import|export", "A command is missing.")
		},
	}
	cmd.AddCommand(
		c.addJSON(&cobra.Command{Use: "list", Short: "Show the list", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			l, err := c.bypass(ctx)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(l)
			}
			for _, e := range l.Entries {
				fmt.Fprintln(c.out, e)
			}
			return nil
		}}),
		&cobra.Command{Use: "add HOST…", Short: "Add exact host names", Args: cobra.MinimumNArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			entries, bad := checkEntries(args)
			if bad != nil {
				return bad
			}
			return c.changeBypass(ctx, bypassRequest{Add: entries})
		}},
		&cobra.Command{Use: "remove HOST…", Short: "Remove hosts", Args: cobra.MinimumNArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return c.changeBypass(ctx, bypassRequest{Remove: args})
		}},
		&cobra.Command{Use: "import LIST", Short: "Add many hosts: a comma-separated or pasted list, or - for standard input", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			text := args[0]
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(c.in, 4<<20))
				if err != nil {
					return failf(exitFailed, "", "Standard input: %v.", err)
				}
				text = string(b)
			} else if st, err := os.Stat(text); err == nil && st.Mode().IsRegular() {
				return failf(exitUsage, fmt.Sprintf("For what is in it: kerbpass bypass import - < %s. For a host of that name: kerbpass bypass add %[1]s", text), "%s is a file, but import takes the list itself.", text)
			}
			// What is good is kept, what is not is named: a long list is not
			// lost for one line.
			entries, bad := checkEntries(route.SplitList(withoutComments(text)))
			before, err := c.bypass(ctx)
			if err == nil && len(entries) > 0 {
				err = c.changeBypass(ctx, bypassRequest{Add: entries})
			}
			if err != nil {
				return err
			}
			after, err := c.bypass(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%d added\n", len(after.Entries)-len(before.Entries))
			if bad != nil {
				bad.code = exitFailed
				return bad
			}
			return nil
		}},
		&cobra.Command{Use: "export", Short: "Print the list on one line, as JAATO_NO_PROXY takes it", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			l, err := c.bypass(ctx)
			if err == nil {
				fmt.Fprintln(c.out, strings.Join(l.Entries, ","))
			}
			return err
		}},
	)
	return cmd
}

// withoutComments drops what stands behind # on each line of a pasted list.
func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimRight(line, "\r\n"), "#")
		b.WriteString(line + "\n")
	}
	return b.String()
}

// checkEntries returns the canonical form of the good entries, and one error
// that names every bad one.
func checkEntries(entries []string) (good []string, bad *exitError) {
	var refused []string
	for _, e := range entries {
		canonical, err := route.CheckEntry(e)
		if err != nil {
			refused = append(refused, entryError(err).Error())
			continue
		}
		good = append(good, canonical)
	}
	if len(refused) > 0 {
		bad = failf(exitUsage, "An entry is one exact host name or address, such as git.corp.example.", "Refused: %s", strings.TrimSuffix(strings.Join(refused, "; "), "?")+map[bool]string{true: "?", false: "."}[strings.HasSuffix(refused[len(refused)-1], "?")])
		bad.cause = errEntries
	}
	return good, bad
}

// refusals lists the bad entries, each with its reason and what could be meant.
func refusals(entries []string) (all []refusedEntry) {
	for _, e := range entries {
		_, err := route.CheckEntry(e)
		var why *route.EntryError
		switch {
		case errors.As(err, &why):
			all = append(all, refusedEntry{strings.TrimSpace(e), why.Reason, append([]string{}, why.Suggestion...), entryCode(why.Reason)})
		case err != nil:
			all = append(all, refusedEntry{strings.TrimSpace(e), err.Error(), []string{}, ""})
		}
	}
	return all
}

func (c *cli) bypass(ctx context.Context) (l bypassList, err error) {
	err = c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Get(ctx, "/v1/bypass", nil, &l) })
	if errors.Is(err, control.ErrNotRunning) {
		var store *settings.Store
		if store, err = c.readable(); err == nil {
			l = listBypass(store.Snapshot())
		}
	}
	return l, err
}

func (c *cli) changeBypass(ctx context.Context, req bypassRequest) error {
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Post(ctx, "/v1/bypass", req, nil) })
	if errors.Is(err, control.ErrNotRunning) {
		var store *settings.Store
		if store, err = c.store(nil, nil); err == nil {
			err = editBypass(store, req)
		}
	}
	return err
}

func listBypass(snap *settings.Snapshot) bypassList {
	exact, _ := route.ParseExact(snap.BypassExact)
	d := snap.Describe()["bypass.exact"]
	return bypassList{append([]string{}, exact.Entries()...), d.Source, d.Locked}
}

// editBypass changes the list in the settings file. What is removed is found
// in any spelling.
func editBypass(store *settings.Store, req bypassRequest) error {
	add, bad := checkEntries(req.Add)
	if bad != nil {
		return bad
	}
	var remove []string
	var missing []string
	have := store.Snapshot().BypassExact
	for _, r := range req.Remove {
		want, err := route.CheckEntry(r)
		found := false
		for _, h := range have {
			if c, e := route.CheckEntry(h); h == r || err == nil && e == nil && c == want {
				remove, found = append(remove, h), true
			}
		}
		if !found {
			missing = append(missing, r)
		}
	}
	if len(missing) > 0 {
		return caused(failf(exitFailed, "See: kerbpass bypass list", "Not on the list: %s.", strings.Join(missing, ", ")), errNotListed)
	}
	return settingsError(store.Edit(func(e *settings.Edit) error {
		if err := e.Add("bypass.exact", add...); err != nil {
			return err
		}
		return e.Remove("bypass.exact", remove...)
	}))
}
