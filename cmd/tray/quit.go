package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
)

// quitLimit is how long "quit --wait" waits; requests under way are not waited
// for by the helper itself.
const quitLimit = 30 * time.Second

// quitReply names the process that is about to end; 0 from a helper that does
// not tell.
type quitReply struct {
	PID int `json:"pid"`
}

func (c *cli) cmdQuit(ctx context.Context) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "quit", Short: "End the running helper", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var reply quitReply
			err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
				return cl.Post(ctx, "/v1/quit", struct{}{}, &reply)
			})
			if errors.Is(err, control.ErrNotRunning) {
				return notRunning()
			}
			if err != nil || !wait || reply.PID == 0 {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, quitLimit)
			defer cancel()
			if err := processGone(ctx, reply.PID); err != nil {
				return failf(exitFailed, "End it by the means of your system.", "The helper, process %d, goes on: %v.", reply.PID, err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return when it has ended, for installers")
	return cmd
}
