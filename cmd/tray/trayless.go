package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"kerbpass/internal/control"
)

// linkLife is how long an address of the settings page that somebody has to
// type or paste is good for.
const linkLife = 10 * time.Minute

// trayless says once that no tray can be shown, why, and how to reach the
// settings. Err is why the tray has ended; nil: the desktop has no place for
// it. The address, which opens the settings to whoever has it, is shown to a
// person at a terminal and to nobody else.
func (d *desktop) trayless(ctx context.Context, err error) {
	d.noTray.Do(func() {
		desktop, _ := d.env("XDG_CURRENT_DESKTOP")
		why, what := noTray(desktop, err)
		if d.terminal == nil {
			d.app.log.Warn("no tray can be shown here; going on as \"kerbpass run\"", "why", why, "do", what, "settings", "kerbpass settings", "err", err)
			return
		}
		text := "No tray can be shown here: " + why + ". Kerbpass goes on without one.\n"
		if what != "" {
			text += what + "\n"
		}
		text += "Settings: kerbpass settings\n"
		if link, err := d.link(ctx); err == nil {
			text += fmt.Sprintf("Or open this in a browser on this computer, once and within %d minutes:\n%s\n", int(linkLife.Minutes()), link)
		}
		fmt.Fprint(d.terminal, text)
	})
}

// noTray words why there is no tray on a desktop, and what to do about it, ""
// nothing.
func noTray(desktop string, err error) (why, what string) {
	for name := range strings.SplitSeq(desktop, ":") {
		if strings.EqualFold(name, "GNOME") && err == nil {
			return "GNOME shows no tray icons by itself",
				`Install and switch on its extension "AppIndicator and KStatusNotifierItem Support" (package gnome-shell-extension-appindicator), then sign in again.`
		}
	}
	if err != nil {
		return "there is no desktop session that it could reach", ""
	}
	return "this desktop has no place for tray icons", "Add a system tray or notification area to its panel."
}

// link is an address of the settings page, good once.
func (d *desktop) link(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.page.Invite(ctx, linkLife)
}

type linkReport struct {
	URL string `json:"url"`
}

// serveLink hands out an address over the control channel, which is open to
// this user alone.
func (a *app) serveLink(w http.ResponseWriter, r *http.Request) {
	if a.pageLink == nil {
		writeError(w, errNoWindow)
		return
	}
	url, err := a.pageLink(r.Context())
	if err != nil {
		writeError(w, failf(exitFailed, "Try again.", "The settings page cannot be served: %v.", err))
		return
	}
	control.WriteJSON(w, linkReport{url})
}

// printLink prints an address of the running helper's settings page.
func (c *cli) printLink(ctx context.Context) error {
	var r linkReport
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Post(ctx, "/v1/link", struct{}{}, &r) })
	if err == nil {
		fmt.Fprintln(c.out, r.URL)
	}
	return err
}
