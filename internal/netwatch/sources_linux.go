//go:build linux

package netwatch

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"
)

func systemSources() []source {
	return []source{
		{"netlink", watchNetlink},
		{"resolv.conf", resolverFiles(resolverPaths).run},
		{"logind", logind{setUp: 10 * time.Second, retry: time.Second, retryMax: 5 * time.Minute}.run},
	}
}

// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE
// of linux/rtnetlink.h, which package syscall does not have.
const netlinkGroups = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

// watchNetlink needs no privilege, and nobody without CAP_NET_ADMIN can send
// to the socket (netlink(7)).
func watchNetlink(ctx context.Context, log *slog.Logger, report func(string)) error {
	// Non-blocking from the start, so that [os.NewFile] hands it to the
	// runtime's poller and Close wakes the reader.
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	defer closeWith(ctx, f)()
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: netlinkGroups}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	log.Debug("watching")
	return readNetlink(f.Read, log, report)
}

// readNetlink reads datagrams until that fails for good.
func readNetlink(read func([]byte) (int, error), log *slog.Logger, report func(string)) error {
	var l links
	buf := make([]byte, 64<<10) // the kernel writes up to 32 KiB
	for {
		n, err := read(buf)
		reason := ""
		switch {
		case errors.Is(err, syscall.ENOBUFS):
			// More changed than the socket could hold: whatever it was, it counts.
			log.Debug("changes were lost", "err", err)
			l.forget()
			reason = Address
		case err != nil:
			return err
		default:
			reason = l.read(buf[:n])
		}
		if reason != "" {
			report(reason)
		}
	}
}
