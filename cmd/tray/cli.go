package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/peer"
	organisation "kerbpass/internal/policy"
	"kerbpass/internal/route"
	"kerbpass/internal/settings"
)

// Exit codes; scripts depend on them.
const (
	exitFailed     = 1
	exitUsage      = 2
	exitNoTicket   = 3
	exitNotRunning = 4
	exitPathBroken = 5
)

// exitError ends the program: one sentence, one hint, one code. With no text
// everything has been said already.
type exitError struct {
	code       int
	text, hint string
	cause      error // what the settings page words it by; nil: unknown
}

func (e *exitError) Error() string { return e.text }

func failf(code int, hint, format string, args ...any) *exitError {
	return &exitError{code: code, text: fmt.Sprintf(format, args...), hint: hint}
}

// cli is one call of the program.
type cli struct {
	args      []string
	lookupEnv func(string) (string, bool)
	in        io.Reader
	out, err  io.Writer

	config, logLevel, logFormat string
	json                        bool
	logs                        logSinks             // none until logger is called
	logFile                     *logFile             // nil: the log goes to standard error alone
	pageFile                    string               // keeps an open settings page over a restart; "": none is kept
	system                      *systemProxies       // of the last store
	policy                      *organisation.Source // nil: the system's
}

// A double click in Windows' Explorer is how people start us.
func init() { cobra.MousetrapHelpText = "" }

func (c *cli) run(ctx context.Context) error {
	root := &cobra.Command{
		Use:           "kerbpass",
		Short:         "Your Kerberos ticket in view, and every program through the corporate proxy with it",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetArgs(c.args)
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return c.checkLogFlags() }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return failf(exitUsage, "See: "+cmd.CommandPath()+" --help", "%s", usageSentence(err))
	})
	f := root.PersistentFlags()
	f.StringVar(&c.config, "config", "", "settings `file` (default: kerbpass/config.toml in your configuration folder)")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
	var flags runFlags
	flags.register(root)
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if handOver(c.args) {
			return nil
		}
		return c.runDesktop(ctx, flags.given(cmd), false)
	}
	for _, add := range []func(context.Context) *cobra.Command{
		c.cmdRun, c.cmdDemo, c.cmdStatus, c.cmdDoctor, c.cmdLogin, c.cmdPassword, c.cmdRenew, c.cmdLogout, c.cmdActivity, c.cmdWhy, c.cmdBypass, c.cmdKerberos, c.cmdPause, c.cmdResume, c.cmdEnv, c.cmdExec, c.cmdApps, c.cmdGateway, c.cmdMetrics, c.cmdAutostart, c.cmdService, c.cmdQuit, c.cmdVersion, c.cmdCompletion, c.cmdSettings, c.cmdWindowChild, c.cmdKeyringChild, c.cmdPACChild,
	} {
		root.AddCommand(add(ctx))
	}
	err := root.ExecuteContext(ctx)
	c.logs.close(logFlush)
	var e *exitError
	if err != nil && !errors.As(err, &e) && isUsage(err) {
		return failf(exitUsage, "See: kerbpass --help", "%s", usageSentence(err))
	}
	return err
}

// usageSentence makes a sentence of what cobra says, without Go's own words.
func usageSentence(err error) string {
	text, _, _ := strings.Cut(err.Error(), ": strconv.")
	text, _, _ = strings.Cut(text, "\n")
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// isUsage recognises what cobra itself says about wrong arguments; it has no
// types for that.
func isUsage(err error) bool {
	text := err.Error()
	for _, s := range []string{"unknown command", "accepts ", "requires at least", "unknown flag", "invalid argument", "required flag"} {
		if strings.HasPrefix(text, s) {
			return true
		}
	}
	return false
}

// addJSON gives a command that prints facts its --json.
func (c *cli) addJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON, for scripts")
	return cmd
}

func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// checkLogFlags refuses bad values for every command alike.
func (c *cli) checkLogFlags() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return failf(exitUsage, "Use debug, info, warn or error.", "The log level %q does not exist.", c.logLevel)
	}
	if c.logFormat != "text" && c.logFormat != "json" {
		return failf(exitUsage, "Use text or json.", "The log format %q does not exist.", c.logFormat)
	}
	return nil
}

// logger writes to standard error, and to the log file if there is one, without
// ever waiting for them. It is made once; run closes it.
func (c *cli) logger() (*slog.Logger, error) {
	if err := c.checkLogFlags(); err != nil {
		return nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, err
	}
	opt := &slog.HandlerOptions{Level: level}
	handler := func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, opt) }
	if c.logFormat == "json" {
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, opt) }
	}
	c.logs = logSinks{newLogSink(c.err, handler)}
	if c.logFile != nil {
		c.logs = append(c.logs, newLogSink(c.logFile, handler))
	}
	return slog.New(handler(c.logs)), nil
}

// store opens the settings as this call sees them.
func (c *cli) store(flags map[string]any, log *slog.Logger) (*settings.Store, error) {
	path := c.config
	if path == "" {
		var err error
		if path, err = settings.DefaultPath(); err != nil {
			return nil, failf(exitFailed, "Give the settings file with --config.", "No configuration folder: %v.", err)
		}
	}
	c.system = newSystemProxies(c.lookupEnv)
	store, err := settings.Open(settings.Config{
		Path: path, LookupEnv: c.lookupEnv, Flags: flags, Log: log, Policy: managed(c.policySource()),
		Check:        map[string]func(any) error{"bypass.exact": checkExact, "tunnel": checkForwards},
		SelfUpstream: selfUpstream, System: c.system.upstreams,
	})
	if err == nil {
		c.system.join(store)
	}
	return store, err
}

// readable is store for commands that print what the file says: one that cannot
// be read is an error and not an empty answer.
func (c *cli) readable() (*settings.Store, error) {
	store, err := c.store(nil, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range store.Snapshot().Problems {
		if p.Source == settings.SourceFile && p.Key == "" && !p.Warning {
			return nil, failf(exitFailed, "Correct the file, then try again.", "%s", strings.TrimSpace(p.String()))
		}
	}
	return store, nil
}

func checkExact(v any) error {
	for _, entry := range v.([]string) {
		if _, err := route.CheckEntry(entry); err != nil {
			return entryError(err)
		}
	}
	return nil
}

// entryError adds what could be meant to why an entry is refused.
func entryError(err error) error {
	var e *route.EntryError
	if !errors.As(err, &e) {
		return err
	}
	if len(e.Suggestion) > 0 {
		return fmt.Errorf("%q: %s; did you mean %s?", e.Entry, e.Reason, strings.Join(e.Suggestion, " or "))
	}
	return fmt.Errorf("%q: %s", e.Entry, e.Reason)
}

// client reaches the running helper.
func (c *cli) client() (*control.Client, error) {
	path, err := control.Path(c.lookupEnv)
	if err != nil {
		return nil, failf(exitFailed, noChannelHint, "No place for the control channel: %v.", err)
	}
	return control.NewClient(path, sameUser), nil
}

// sameUser is the check at both ends of the control channel.
func sameUser(conn net.Conn) error { return peer.SameUser(conn) }

const callTimeout = 15 * time.Second

// ask calls the helper; [control.ErrNotRunning] passes through.
func (c *cli) ask(ctx context.Context, f func(ctx context.Context, cl *control.Client) error) error {
	return c.askWithin(ctx, callTimeout, f)
}

// askWithin is ask for what takes longer.
func (c *cli) askWithin(ctx context.Context, limit time.Duration, f func(ctx context.Context, cl *control.Client) error) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if c.config != "" {
		// A file named on the command line must be the one that is meant.
		if err := c.sameConfig(ctx, cl); err != nil {
			return err
		}
	}
	err = f(ctx, cl)
	var remote *control.RemoteError
	if errors.As(err, &remote) {
		code := exitFailed
		if remote.Status == 400 {
			code = exitUsage
		}
		return &exitError{code: code, text: remote.Message, hint: remote.Hint}
	}
	return err
}

// sameConfig refuses to talk to a helper that uses another settings file than
// the one the user named.
func (c *cli) sameConfig(ctx context.Context, cl *control.Client) error {
	var r struct {
		Config string `json:"config"`
	}
	if err := cl.Get(ctx, "/v1/config", nil, &r); err != nil {
		return err
	}
	mine, err := filepath.Abs(c.config)
	if err != nil {
		return err
	}
	a, errA := os.Stat(mine)
	b, errB := os.Stat(r.Config)
	if mine == r.Config || errA == nil && errB == nil && os.SameFile(a, b) {
		return nil
	}
	return failf(exitFailed, "Leave out --config, or end the helper first: kerbpass quit", "The running helper uses another settings file, %s.", r.Config)
}

func notRunning() *exitError {
	return failf(exitNotRunning, "Start it: kerbpass run", "The helper is not running.")
}
