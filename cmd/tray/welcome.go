package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
)

// placeWait is how long a panel may take to come up before a person is told
// that there is no tray. At login the panel may start after us.
const placeWait = 5 * time.Second

// firstStart finds out whether nobody has used this program here yet: there is
// no settings file, and neither the organisation nor the command line says
// where the proxy is. With open, the window is shown at once, else the welcome
// waits for a tray.
func (d *desktop) firstStart(open bool) {
	store := d.app.cfg.store
	_, err := os.Stat(store.Path())
	source := store.Snapshot().Origins["upstream"].Source
	d.first = errors.Is(err, fs.ErrNotExist) && source != settings.SourcePolicy && source != settings.SourceFlag
	switch {
	case open && d.first:
		d.first = false
		d.jobs.Go(d.offerWelcome)
	case open:
		d.jobs.Go(d.offerSettings)
	}
}

// placed takes in whether the icon is shown; the newest counts.
func (d *desktop) placed(visible bool) {
	for {
		select {
		case d.hasPlace <- visible:
			return
		default:
		}
		select {
		case <-d.hasPlace:
		default:
		}
	}
}

// greet opens the welcome of a first start once there is a tray, and says when
// there is none.
func (d *desktop) greet(ctx context.Context) {
	wait := time.NewTimer(placeWait)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
			d.trayless(ctx, nil)
		case visible := <-d.hasPlace:
			switch {
			case !visible:
				continue // a panel may be on its way
			case !wait.Stop():
				d.app.log.Info("the tray is shown")
			}
			if d.first {
				d.first = false
				d.jobs.Go(d.offerWelcome)
			}
		}
	}
}

// offerWelcome shows the window with the welcome, once and never again: from
// then on there is a settings file. Where none can be written, there is no
// welcome, because it would come at each start.
func (d *desktop) offerWelcome() {
	if err := d.app.cfg.store.Create(); err != nil {
		d.app.log.Warn("no welcome, because nothing can be saved", "err", err)
		return
	}
	d.welcome.Store(true)
	if err := d.showWindow(d.ctx); err != nil && d.ctx.Err() == nil {
		d.welcome.Store(false)
		d.app.log.Warn("no window for the welcome", "err", err)
	}
}

type welcomeReport struct {
	Wanted bool `json:"wanted"`
}

func (d *desktop) serveWelcome(w http.ResponseWriter, _ *http.Request) {
	control.WriteJSON(w, welcomeReport{d.welcome.Load()})
}

func (d *desktop) endsWelcome(w http.ResponseWriter, _ *http.Request) {
	d.welcome.Store(false)
	control.WriteJSON(w, struct{}{})
}
