//go:build linux

package userservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const answerTime = 10 * time.Second

// systemd is the manager of one user's services.
type systemd struct {
	managed
	file string
}

func newService(cfg Config) (*Service, error) {
	if strings.ContainsAny(cfg.Command[0], "\\\"'") {
		return nil, fmt.Errorf("systemd starts no program with a quotation mark or a backslash in its path: %s", cfg.Command[0])
	}
	text := systemdUnit(cfg)
	svc, err := open("linux-systemd", cfg, "SystemdScript", text)
	if err != nil {
		return nil, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(home, ".config/systemd/user", cfg.Name+".service")
	return &Service{file, text, systemd{svc, file}}, nil
}

// answers comes before everything: what systemctl says here, in words, is only
// an exit code later, and some machines and containers have no manager for users.
func (systemd) answers() error {
	path, err := exec.LookPath("systemctl")
	if err != nil {
		return fmt.Errorf("services of a user need systemd: %w", errors.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--user", "show", "--property=Version")
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		why, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("systemd does not manage services of this user here: %w: %.200s", err, why)
	}
	return nil
}

func (s systemd) leftovers() []string {
	dir, unit := filepath.Split(s.file)
	return []string{filepath.Join(dir, "default.target.wants", unit), s.file}
}
