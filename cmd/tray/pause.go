package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
)

const (
	usualPause   = 15 * time.Minute
	longestPause = 24 * time.Hour
)

// pauseRequest is what POST /v1/pause carries; no seconds end a pause.
type pauseRequest struct {
	Seconds int64 `json:"seconds"`
}

func (c *cli) cmdPause(ctx context.Context) *cobra.Command {
	return &cobra.Command{
		Use: "pause [DURATION]", Short: "Go on as if Kerberos were off, for 15 minutes or DURATION", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			d := usualPause
			if len(args) == 1 {
				var err error
				if d, err = time.ParseDuration(args[0]); err != nil || d < time.Second || d > longestPause {
					return failf(exitUsage, "Use one like 30m or 2h, at most 24h.", "%q is not a duration for a pause.", args[0])
				}
			}
			return c.pause(ctx, d)
		},
	}
}

func (c *cli) cmdResume(ctx context.Context) *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "End a pause", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return c.pause(ctx, 0) },
	}
}

func (c *cli) pause(ctx context.Context, d time.Duration) error {
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
		return cl.Post(ctx, "/v1/pause", pauseRequest{int64(d / time.Second)}, nil)
	})
	if errors.Is(err, control.ErrNotRunning) {
		return notRunning()
	}
	if err == nil && d > 0 {
		fmt.Fprintf(c.out, "Paused until %s; end it with: kerbpass resume\n", time.Now().Add(d).Format("15:04"))
	}
	return err
}

func (a *app) servePause(w http.ResponseWriter, r *http.Request) {
	var req pauseRequest
	if !decode(w, r, &req) {
		return
	}
	if req.Seconds < 0 || req.Seconds > int64(longestPause/time.Second) {
		writeError(w, caused(failf(exitUsage, "", "A pause lasts at most 24 hours."), errBadRequest))
		return
	}
	writeResult(w, a.pause(time.Duration(req.Seconds)*time.Second))
}

// pause sends everything as if Kerberos were off for d, then resumes by
// itself. Zero ends a pause. Where the switch is locked it refuses.
func (a *app) pause(d time.Duration) error {
	if d > 0 {
		if err := mayPause(a.cfg.store.Snapshot()); err != nil {
			return err
		}
	}
	a.adopting.Lock()
	a.stopPause()
	if d > 0 {
		a.paused = time.Now().Add(d)
		a.resume = time.AfterFunc(d, func() { a.endPause() })
	}
	a.adopting.Unlock()
	if d > 0 {
		a.log.Info("kerberos paused", "for", d)
	} else {
		a.log.Info("pause ended")
	}
	return a.adoptCurrent()
}

// stopPause forgets a pause. The caller holds a.adopting.
func (a *app) stopPause() {
	if a.resume != nil {
		a.resume.Stop()
	}
	a.paused, a.resume = time.Time{}, nil
}

// endPause resumes when a pause is over, unless another has begun.
func (a *app) endPause() {
	if a.pausedUntil().IsZero() {
		if err := a.adoptCurrent(); err != nil {
			a.log.Error("pause not ended", "err", err)
		}
	}
}

// pausedUntil is when a pause ends, zero if there is none.
func (a *app) pausedUntil() time.Time {
	a.adopting.Lock()
	defer a.adopting.Unlock()
	return a.pauseEnd(time.Now())
}

// pauseEnd is pausedUntil for a caller that holds a.adopting.
func (a *app) pauseEnd(now time.Time) time.Time {
	if !now.Before(a.paused) {
		return time.Time{}
	}
	return a.paused
}
