//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"kerbpass/assets"
)

const noChannelHint = "Set XDG_RUNTIME_DIR to a folder of your own."

// canSignIn says that this program, and not the system, asks for the password.
const canSignIn = true

// systemIcon is a PNG, which the panel scales.
func systemIcon(state string) []byte { return assets.Icon(state, trayPixels) }

// terminals are the programs that run a command in a window, with what comes
// before the command.
var terminals = [][]string{
	{"x-terminal-emulator", "-e"}, {"gnome-terminal", "--"}, {"konsole", "-e"}, {"xfce4-terminal", "-x"},
	{"kgx", "--"}, {"ptyxis", "--"}, {"alacritty", "-e"}, {"kitty"}, {"foot"}, {"xterm", "-e"},
}

// terminalProgram is the first that is installed, nil without one.
func terminalProgram() []string {
	for _, t := range terminals {
		if path, err := exec.LookPath(t[0]); err == nil {
			return append([]string{path}, t[1:]...)
		}
	}
	return nil
}

// signInTerminal opens a window that asks for the password, and stays open
// when something went wrong.
func signInTerminal() error {
	term := terminalProgram()
	self, err := os.Executable()
	if err != nil || term == nil {
		return failf(exitFailed, "Sign in from a terminal: kerbpass login", "No terminal program was found.")
	}
	const script = `"$0" login || { printf '\nPress Enter to close this window. '; read -r _; }`
	return launch(exec.Command(term[0], append(term[1:], "sh", "-c", script, self)...))
}

// openFile opens a file with the person's own program for it.
func openFile(path string) error {
	program, err := exec.LookPath("xdg-open")
	if err != nil {
		return caused(failf(exitFailed, path, "Nothing on this desktop opens the file; open it with an editor."), errors.New(path), errNothingOpens)
	}
	return launch(exec.Command(program, path))
}

// launch starts a program that lives on without us.
func launch(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return failf(exitFailed, "Start it by hand.", "%s does not start: %v.", cmd.Path, err)
	}
	go cmd.Wait()
	return nil
}

// copyText puts text on the clipboard. The programs stay in the background as
// long as it is there.
func copyText(text string) error {
	failed := errors.New("no program for the clipboard was found")
	for _, args := range [][]string{{"wl-copy"}, {"xclip", "-selection", "clipboard"}, {"xsel", "--clipboard", "--input"}} {
		path, err := exec.LookPath(args[0])
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		cmd := exec.CommandContext(ctx, path, args[1:]...)
		cmd.Stdin = strings.NewReader(text)
		err = cmd.Run()
		cancel()
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
