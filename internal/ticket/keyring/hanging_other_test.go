//go:build !unix

package keyring_test

// hanging are the roles that a call has to end.
var hanging = []string{"hang"}
