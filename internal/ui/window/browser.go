package window

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// browserEnd is how long a browser may take to save its profile. It is shorter
// than endLimit, which is for the child that waits for it.
const browserEnd = 700 * time.Millisecond

// An appView is a window of a Chromium-family browser.
type appView struct {
	cmd    *exec.Cmd
	closed context.Context
	cancel context.CancelFunc
}

func newAppView(p page) (view, error) {
	profile, err := profileFolder(wayBrowserApp)
	if err != nil {
		return nil, err
	}
	for _, name := range appBrowsers() {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		v := &appView{}
		v.closed, v.cancel = context.WithCancel(context.Background())
		v.cmd = exec.CommandContext(v.closed, path, appArgs(p.url.String(), profile)...)
		v.cmd.WaitDelay = browserEnd
		tieGroup(v.cmd)
		return v, nil
	}
	return nil, errNoBrowser
}

// profileFolder is where the engine of a way keeps its files.
func profileFolder(way string) (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, program, way), err
}

// appArgs are a Chromium-family browser's arguments.
func appArgs(url, profile string) []string {
	return []string{
		"--app=" + url,
		"--user-data-dir=" + profile, // its own process, which ends with the window
		"--password-store=basic",     // else it waits for a keyring's password before it paints
		"--no-first-run",
		"--no-default-browser-check",
		"--no-proxy-server",
		"--disable-extensions",
		"--disable-sync",
		"--disable-background-networking",
		"--disable-component-update",
		"--disable-gpu", // hangs and blank windows in remote sessions
		"--class=" + program,
		fmt.Sprintf("--window-size=%d,%d", width, height),
	}
}

func (v *appView) run() error {
	err := v.cmd.Run()
	if v.closed.Err() != nil {
		return nil
	}
	return err
}

func (v *appView) raise() {} // the parent does not ask
func (v *appView) close() { v.cancel() }

// A browserView is the page in the person's own browser, which stays when the
// child goes.
type browserView struct {
	page   page
	closed context.Context
	cancel context.CancelFunc
}

func newBrowserView(p page) *browserView {
	v := &browserView{page: p}
	v.closed, v.cancel = context.WithCancel(context.Background())
	return v
}

// run returns when the browser has the page, or is closed if it is the first
// of the person's browser.
func (v *browserView) run() error {
	opened := make(chan error, 1)
	go func() { opened <- browse(v.page.url.String()) }()
	select {
	case err := <-opened:
		return err
	case <-v.closed.Done():
		return nil
	}
}

func (v *browserView) raise() {} // the parent does not ask
func (v *browserView) close() { v.cancel() }
