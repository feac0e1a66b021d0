//go:build darwin

package netwatch

import (
	"context"
	"log/slog"
	"os"
	"syscall"
)

// Waking from sleep is left to the clock, and shows in links and addresses too.
func systemSources() []source {
	return []source{{"routing socket", watchRoutes}}
}

func watchRoutes(ctx context.Context, log *slog.Logger, report func(string)) error {
	// No child may inherit it between its making and its marking.
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_ROUTE, syscall.SOCK_RAW, syscall.AF_UNSPEC)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// For the runtime's poller, so that Close wakes the reader.
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "routing socket")
	defer closeWith(ctx, f)()
	log.Debug("watching")
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			// ENOBUFS is not reported here: the kernel drops in silence.
			return err
		}
		if reason := routeMessages(buf[:n]); reason != "" {
			report(reason)
		}
	}
}
