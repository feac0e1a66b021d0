//go:build darwin

package autostart

func newSystem(cfg Config) (system, error) { return newLaunchd(cfg) }
