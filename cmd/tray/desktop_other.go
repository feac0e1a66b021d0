//go:build !linux && !windows

package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"kerbpass/assets"
)

const noChannelHint = "Set HOME to a folder of your own."

// canSignIn says that this program, and not the system, asks for the password.
const canSignIn = true

// systemIcon is a template, which the menu bar colours.
func systemIcon(state string) []byte { return assets.Template(state, 2) }

// terminalProgram is how macOS opens a terminal.
func terminalProgram() []string {
	if path, err := exec.LookPath("osascript"); err == nil {
		return []string{path}
	}
	return nil
}

// signInTerminal opens a window that asks for the password.
func signInTerminal() error {
	term := terminalProgram()
	self, err := os.Executable()
	if err != nil || term == nil || strings.ContainsAny(self, `"\'`) {
		return failf(exitFailed, "Sign in from a terminal: kerbpass login", "No terminal program was found.")
	}
	return launch(exec.Command(term[0], "-e", `tell application "Terminal" to do script "'`+self+`' login"`, "-e", `tell application "Terminal" to activate`))
}

// openFile opens a file with the person's own program for it.
func openFile(path string) error { return launch(exec.Command("open", "-t", path)) }

// launch starts a program that lives on without us.
func launch(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return failf(exitFailed, "Start it by hand.", "%s does not start: %v.", cmd.Path, err)
	}
	go cmd.Wait()
	return nil
}

// copyText puts text on the clipboard.
func copyText(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "pbcopy")
	cmd.Stdin = strings.NewReader(text)
	return cmd.Run()
}
