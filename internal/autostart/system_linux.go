//go:build linux

package autostart

func newSystem(cfg Config) (system, error) { return newXDG(cfg) }
