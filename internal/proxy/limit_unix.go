//go:build unix

package proxy

import "syscall"

// connLimit is how many client connections the process's file limit allows,
// each with one to the other side, and some left for everything else.
func connLimit() int {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) != nil {
		return maxConns
	}
	return int(max(8, min(uint64(lim.Cur)-min(uint64(lim.Cur), 100), 2*maxConns)/2))
}
