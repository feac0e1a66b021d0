//go:build unix

package keyring_test

// hanging are the roles that a call has to end; in the second one the child has
// left the work to a program of its own, as macOS does.
var hanging = []string{"hang", "family"}
