//go:build darwin && cgo

package tray

import (
	"context"
	"log/slog"
)

const (
	mnemonic   = ""
	drawBefore = false
)

// host is the menu bar, which is always there.
type host struct{}

func openHost(context.Context, *slog.Logger) (*host, error) { return &host{}, nil }

func (*host) close() {}

func (*host) gone() <-chan struct{} { return nil }

func (*host) watch(ctx context.Context, visible func(bool), _ chan<- struct{}) error {
	visible(true)
	<-ctx.Done()
	return nil
}
