//go:build darwin

package userservice

import (
	"os/user"
	"path/filepath"

	"kerbpass/internal/autostart"
)

// launchd is the manager of one user's services.
type launchd struct {
	managed
	file string
}

func newService(cfg Config) (*Service, error) {
	text := autostart.LaunchAgent{Label: cfg.Name, Command: cfg.Command, KeepUp: true}.Plist()
	svc, err := open("darwin-launchd", cfg, "LaunchdConfig", text)
	if err != nil {
		return nil, err
	}
	me, err := user.Current() // not HOME: the manager is asked to write there
	if err != nil {
		return nil, err
	}
	file := filepath.Join(me.HomeDir, "Library/LaunchAgents", cfg.Name+".plist")
	return &Service{file, text, launchd{svc, file}}, nil
}

func (launchd) answers() error        { return nil } // it is always there
func (l launchd) leftovers() []string { return []string{l.file} }
