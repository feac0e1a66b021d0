//go:build linux || darwin

package userservice

import (
	"errors"
	"fmt"

	"github.com/kardianos/service"
)

// managed is what both managers have in common.
type managed struct{ service.Service }

// open takes the named system without asking whether it is the one that runs
// this machine: the manager itself knows better. Text is the whole file, a
// template without anything to fill in.
func open(system string, cfg Config, option, text string) (managed, error) {
	for _, s := range service.AvailableSystems() {
		if s.String() != system {
			continue
		}
		svc, err := s.New(nil, &service.Config{
			Name:       cfg.Name,
			Executable: cfg.Command[0],
			Option:     service.KeyValue{"UserService": true, option: text},
		})
		return managed{svc}, err
	}
	return managed{}, fmt.Errorf("%s: %w", system, errors.ErrUnsupported)
}

func (m managed) install() error   { return m.Install() }
func (m managed) uninstall() error { return m.Uninstall() }
func (m managed) start() error     { return m.Start() }
func (m managed) stop() error      { return m.Stop() }

func (m managed) running() (yes bool, detail string, err error) {
	status, err := m.Status()
	switch {
	case errors.Is(err, service.ErrNotInstalled):
		return false, "the service manager has not read its file yet", nil
	case err != nil:
		// A service that has failed is told by words only.
		return false, err.Error(), nil
	}
	return status == service.StatusRunning, "", nil
}
