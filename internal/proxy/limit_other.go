//go:build !unix

package proxy

// connLimit has no file limit to look at here.
func connLimit() int { return maxConns }
