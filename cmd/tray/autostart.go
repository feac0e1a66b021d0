package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"kerbpass/internal/autostart"
	"kerbpass/internal/autostart/userservice"
)

const (
	autostartID = "kerbpass"
	serviceName = "kerbpass-proxy" // not autostartID: both are launch agents on macOS
)

func (c *cli) cmdAutostart(context.Context) *cobra.Command {
	actions := map[string]func(*autostart.Entry) error{
		"on": (*autostart.Entry).Enable, "off": (*autostart.Entry).Disable, "status": c.autostartStatus,
	}
	return c.addJSON(&cobra.Command{
		Use: "autostart on|off|status", Short: "Start kerbpass when you log in, or not", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"on", "off", "status"},
		RunE: func(_ *cobra.Command, args []string) error {
			action, ok := actions[args[0]]
			if !ok {
				return failf(exitUsage, "Use: kerbpass autostart on, off or status.", "%q is not known here.", args[0])
			}
			entry, err := c.autostart()
			if err == nil {
				err = action(entry)
			}
			return autostartError(err)
		},
	})
}

// autostart is what starts at login: this program, with its tray.
func (c *cli) autostart() (*autostart.Entry, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return autostart.New(autostart.Config{
		ID: autostartID, Name: "Kerbpass", Comment: "Kerberos ticket and proxy", Icon: "kerbpass",
		Command: []string{desktopProgram(exe)}, Also: []string{consoleProgram}, LookupEnv: c.lookupEnv,
	})
}

// autostartReport is the answer of "autostart status --json".
type autostartReport struct {
	Enabled bool         `json:"enabled"`
	By      autostart.By `json:"by"`
	Stale   bool         `json:"stale"`
	Where   string       `json:"where"`
	Detail  string       `json:"detail,omitempty"`
}

func (c *cli) autostartStatus(entry *autostart.Entry) error {
	st, err := entry.Status()
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(autostartReport(st))
	}
	text := onOff(st.Enabled)
	if st.By == autostart.ByAdmin {
		text += ", set by the administrator"
	}
	printState(c, text, st.Detail, st.Where)
	return nil
}

// printState prints a state, what there is to add, and where it comes from.
func printState(c *cli, state, detail, where string) {
	if detail != "" {
		state += ": " + detail
	}
	fmt.Fprintf(c.out, "%s (%s)\n", state, where)
}

func autostartError(err error) error {
	for _, known := range []struct {
		is   error
		hint string
	}{
		{autostart.ErrForeign, "Remove that entry yourself if you do not need it, then try again."},
		{autostart.ErrNotRegular, "Put a regular file there, or nothing, then try again."},
		{autostart.ErrTurnedOff, "Turn it on in the Task Manager, under Startup apps."},
		{autostart.ErrByAdmin, "Turn it off in the system's own settings for startup, or ask your administrator."},
		{errors.ErrUnsupported, "Start it by the means of your system: kerbpass"},
	} {
		if errors.Is(err, known.is) {
			return failf(exitFailed, known.hint, "Start at login is not as you want it: %v.", err)
		}
	}
	if err != nil {
		return failf(exitFailed, "Check your home folder and who may write there.", "Start at login cannot be read or changed: %v.", err)
	}
	return nil
}

func (c *cli) cmdService(context.Context) *cobra.Command {
	actions := map[string]func(*userservice.Service) error{
		"install": (*userservice.Service).Install, "uninstall": (*userservice.Service).Uninstall,
		"start": (*userservice.Service).Start, "stop": (*userservice.Service).Stop, "status": c.serviceStatus,
	}
	return c.addJSON(&cobra.Command{
		Use: "service install|uninstall|start|stop|status", Short: "Run the proxy without a desktop, as a service of yours", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"install", "uninstall", "start", "stop", "status"},
		RunE: func(_ *cobra.Command, args []string) error {
			action, ok := actions[args[0]]
			if !ok {
				return failf(exitUsage, "Use: kerbpass service install, uninstall, start, stop or status.", "%q is not known here.", args[0])
			}
			svc, err := userService()
			if err == nil {
				err = action(svc)
			}
			return serviceError(err)
		},
	})
}

// userService is the helper without its tray.
func userService() (*userservice.Service, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return userservice.New(userservice.Config{
		Name: serviceName, Description: "Kerbpass, a local proxy that authenticates with your Kerberos ticket",
		Command: []string{exe, "run"},
	})
}

// userServiceReport is the answer of "service status --json".
type userServiceReport struct {
	Installed bool   `json:"installed"`
	Running   bool   `json:"running"`
	Stale     bool   `json:"stale"`
	Where     string `json:"where"`
	Detail    string `json:"detail,omitempty"`
}

func (c *cli) serviceStatus(svc *userservice.Service) error {
	st, err := svc.Status()
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(userServiceReport(st))
	}
	text := "not installed"
	switch {
	case st.Running:
		text = "running"
	case st.Installed:
		text = "stopped"
	}
	if st.Stale {
		text += ", installed differently from how it would be now"
	}
	printState(c, text, st.Detail, st.Where)
	return nil
}

func serviceError(err error) error {
	hint := "Start the proxy yourself meanwhile: kerbpass run"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errors.ErrUnsupported):
		hint = "Start it when you log in: kerbpass autostart on"
	case errors.Is(err, userservice.ErrNotInstalled):
		hint = "Install it: kerbpass service install"
	case errors.Is(err, userservice.ErrDiffers):
		hint = "Remove it first: kerbpass service uninstall"
	}
	return failf(exitFailed, hint, "The service cannot be managed: %v.", err)
}
