//go:build windows

package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"

	"kerbpass/assets"
)

const noChannelHint = "Sign in to Windows again, or restart it."

// systemIcon is an ICO with all sizes.
func systemIcon(state string) []byte { return assets.ICO(state) }

// canSignIn says that this program, and not the system, asks for the password.
const canSignIn = false

func signInTerminal() error {
	return failf(exitFailed, "Lock Windows (Win+L) and unlock it with your password.", "Windows itself gets the ticket.")
}

// openFile opens a file with the person's own program for it.
func openFile(path string) error {
	cmd := exec.Command("rundll32.exe", "url.dll,FileProtocolHandler", path)
	if err := cmd.Start(); err != nil {
		return caused(failf(exitFailed, path, "Nothing on this desktop opens the file; open it with an editor."), errors.New(path), errNothingOpens)
	}
	go cmd.Wait()
	return nil
}

// copyText puts text on the clipboard.
func copyText(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := noConsole(exec.CommandContext(ctx, "clip.exe"))
	cmd.Stdin = strings.NewReader(text)
	return cmd.Run()
}
