package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"kerbpass/internal/ticket/keyring"
)

const keyringChild = "keyring-child"

// cmdKeyringChild is what [keyring.Store] starts; people have no use for it. It
// logs nothing, for it holds a password.
func (c *cli) cmdKeyringChild(context.Context) *cobra.Command {
	return &cobra.Command{
		Use: keyringChild, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return keyring.Serve(c.in, c.out) },
	}
}

// newKeyring is the keyring of this user, reached through this program.
func newKeyring() (*keyring.Store, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return keyring.New(keyring.Config{Command: []string{self, keyringChild}})
}

// keyringError is what a person is told whose password could not be saved in
// the keyring, or removed from it.
func keyringError(err error) error {
	switch {
	case errors.Is(err, keyring.ErrUnavailable):
		return failf(exitFailed, "On Linux, install gnome-keyring or KWallet and sign in to the desktop again. A file is never used instead.",
			"No keyring answers (%s). The password was not saved or removed.", keyring.Provider())
	case errors.Is(err, keyring.ErrLocked):
		return failf(exitFailed, "Unlock the keyring, or make one (on Linux with Passwords and Keys or KWalletManager), then try again.",
			"The keyring is locked. The password was not saved or removed.")
	case errors.Is(err, keyring.ErrTooLarge):
		return failf(exitFailed, "Go on signing in by hand.", "The password is too long for the keyring. It was not saved.")
	}
	return failf(exitFailed, "", "The password was not saved or removed: %v.", err)
}
