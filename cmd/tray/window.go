package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/assets"
	"kerbpass/internal/control"
	"kerbpass/internal/peer"
	"kerbpass/internal/settings"
	"kerbpass/internal/ui"
	"kerbpass/internal/ui/web"
	"kerbpass/internal/ui/window"
)

const (
	windowChild = "settings-window"
	openLimit   = time.Minute // for all ways of opening the window together
)

// cmdWindowChild is what [window.Window] starts; people have no use for it.
func (c *cli) cmdWindowChild(context.Context) *cobra.Command {
	return &cobra.Command{
		Use: windowChild + " WAY", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := window.Child(c.in, args[0]); err != nil {
				return failf(window.ExitCode(err), "", "The settings window: %v.", err)
			}
			return nil
		},
	}
}

func (c *cli) cmdSettings(ctx context.Context) *cobra.Command {
	var link bool
	cmd := &cobra.Command{
		Use: "settings", Short: "Open the settings window", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if link {
				err := c.printLink(ctx)
				if errors.Is(err, control.ErrNotRunning) {
					return failf(exitNotRunning, "Start it with the settings page: kerbpass", "The helper is not running.")
				}
				return err
			}
			err := c.askForWindow(ctx)
			if errors.Is(err, control.ErrNotRunning) {
				return c.runDesktop(ctx, runFlags{}, true)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&link, "link", false, "print an address for a browser on this computer instead, good once and for ten minutes")
	return cmd
}

// askForWindow has the running helper open its window.
func (c *cli) askForWindow(ctx context.Context) error {
	return c.askWithin(ctx, openLimit+callTimeout, func(ctx context.Context, cl *control.Client) error {
		return cl.Post(ctx, "/v1/window", struct{}{}, nil)
	})
}

// addWindow gives the desktop its settings page and the window that shows it.
func (d *desktop) addWindow() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if d.own, err = peer.New(peer.Config{Log: d.app.log}); err != nil {
		return err
	}
	d.page, err = web.New(web.Config{
		API: d.pageAPI(), Peer: d.own.Allowed, Resume: d.keptPage(), Keep: d.keepPage, Log: d.app.log,
		Lang:    func() string { return d.printer().Language() },
		Cause:   func(lang, cause string) (string, string) { return ui.NewPrinter(lang, nil).Cause(cause, "") },
		Painted: func() { d.window.Painted() },
	})
	if err != nil {
		return err
	}
	d.window, err = window.New(window.Config{
		Command: []string{self, windowChild}, Page: d.page.Open, Icon: assets.App(48), Env: os.Environ(), Log: d.app.log,
		Preferred: rememberedWay(), Remember: d.rememberWay,
	})
	return err
}

// openWindow shows the settings window; who asks for it has no use for the
// welcome any more.
func (d *desktop) openWindow(ctx context.Context) error {
	d.welcome.Store(false)
	return d.showWindow(ctx)
}

func (d *desktop) showWindow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	err := d.window.Open(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, window.ErrNoDisplay):
		return failf(exitFailed, "The settings are in "+d.app.cfg.store.Path()+". For a browser: kerbpass settings --link", "There is no desktop to show a window on.")
	}
	return failf(exitFailed, "The settings are in "+d.app.cfg.store.Path()+".", "The settings window cannot be shown: %v.", err)
}

// wayFile holds the way of showing the window that worked last.
func wayFile() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "kerbpass", "window"), err
}

func rememberedWay() string {
	path, err := wayFile()
	if err != nil {
		return ""
	}
	text, _ := os.ReadFile(path) // none is as good
	return strings.TrimSpace(string(text[:min(len(text), 64)]))
}

func (d *desktop) rememberWay(way string) {
	path, err := wayFile()
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(way+"\n"), 0o600))
	}
	if err != nil {
		d.app.log.Debug("way of showing the window not remembered", "err", err)
	}
}

// openFiles opens what only the helper with a desktop has: the log file, and
// the one that keeps an open page over a restart. It can do without.
func (c *cli) openFiles() {
	if path, err := defaultLogFile(); err == nil {
		c.logFile, _ = openLogFile(path) // said by the page, which offers to open it
	}
	c.pageFile, _ = pageFile(c.lookupEnv)
}

// pageFile is where an open page is kept: beside the control channel, so that
// whoever can read it could as well ask that for a link.
func pageFile(lookupEnv func(string) (string, bool)) (string, error) {
	path, err := control.Path(lookupEnv)
	if err == nil && runtime.GOOS != "windows" { // where that is no file
		return filepath.Join(filepath.Dir(path), "page"), nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "kerbpass", "page"), err
}

// keptPage is the page that was open when the helper ended, "" none.
func (d *desktop) keptPage() string {
	if d.pageFile == "" {
		return ""
	}
	text, _ := os.ReadFile(d.pageFile) // none is as good
	return string(text)
}

// keepPage writes down what keptPage returns at the next start.
func (d *desktop) keepPage(text string) {
	var err error
	switch {
	case d.pageFile == "":
		return
	case text == "":
		if err = os.Remove(d.pageFile); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	default:
		fresh := d.pageFile + ".new"
		os.Remove(fresh) // so that the mode is ours
		if err = os.WriteFile(fresh, []byte(text), 0o600); err == nil {
			err = os.Rename(fresh, d.pageFile)
		}
	}
	if err != nil {
		d.app.log.Debug("open page not kept", "err", err)
	}
}

// settingsFile opens the settings file in the person's editor, and makes one if
// there is none.
func settingsFile(store *settings.Store) error {
	if err := store.Create(); err != nil {
		return settingsError(err)
	}
	return openFile(store.Path())
}

// windowOrFile is what a click on Settings… does.
func (d *desktop) windowOrFile(ctx context.Context) error {
	err := d.openWindow(ctx)
	if err == nil {
		return nil
	}
	d.app.log.Warn("no settings window, opening the file", "err", err)
	if fileErr := settingsFile(d.app.cfg.store); fileErr != nil {
		return fmt.Errorf("%w; %v", err, fileErr)
	}
	return nil
}
