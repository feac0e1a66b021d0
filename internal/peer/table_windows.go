//go:build windows

package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

var procGetExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// Which rows a table is to have (TCP_TABLE_CLASS).
const (
	listeners   = 3
	connections = 4
)

// Bounds of one table and of the attempts to get it while it grows.
const (
	maxTable = 64 << 20
	attempts = 10
)

// tables are those of the two families. An IPv6 socket that is connected to a
// mapped address may stand in either one.
var tables = []struct {
	family uintptr
	layout rowLayout
}{{windows.AF_INET, rowIPv4}, {windows.AF_INET6, rowIPv6}}

// table asks the system for all its connections, every time: it has no
// question about a single one.
type table struct{}

func newTable(*slog.Logger) table { return table{} }

func (table) prepare() {}

func (table) close() error { return nil }

// owner returns the user of the process that holds the socket bound to client
// and connected to server.
func (table) owner(client, server netip.AddrPort) (owner, error) {
	holder := func() (uint32, error) {
		return inTables(connections, func(rows []tcpRow) (uint32, error) { return heldBy(rows, client, server) })
	}
	pid, err := holder()
	if err != nil {
		return owner{}, err
	}
	process, err := openProcess(pid)
	if err != nil {
		return owner{}, err
	}
	defer windows.CloseHandle(process)
	user, err := processUser(process)
	if err != nil {
		return owner{}, fmt.Errorf("user of process %d: %w", pid, err)
	}
	// The process may have ended before it was opened, and its id have gone to
	// another one; that one is not in the table.
	if again, err := holder(); err != nil || again != pid {
		return owner{}, errors.Join(ErrNotFound, err)
	}
	return owner{user: user, key: uint64(pid)}, nil
}

// inTables returns what find finds in the first table that has it.
func inTables(class uintptr, find func([]tcpRow) (uint32, error)) (pid uint32, err error) {
	for _, t := range tables {
		b, err := readTable(t.family, class)
		if err != nil {
			return 0, fmt.Errorf("table of TCP sockets: %w", err)
		}
		rows, err := parseTCPTable(b, t.layout)
		if err != nil {
			return 0, err
		}
		if pid, err := find(rows); !errors.Is(err, ErrNotFound) {
			return pid, err
		}
	}
	return 0, ErrNotFound
}

func readTable(family, class uintptr) ([]byte, error) {
	size := uint32(16 << 10)
	for range attempts {
		b := make([]byte, size)
		status, _, _ := procGetExtendedTCPTable.Call(uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(unsafe.Pointer(&size)), 0, family, class, 0)
		switch err := windows.Errno(status); {
		case status == 0:
			return b[:min(int(size), len(b))], nil
		case !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER):
			return nil, err
		case size > maxTable:
			return nil, fmt.Errorf("%d bytes: %w", size, err)
		}
		size += size / 4 // it grows while we ask
	}
	return nil, errors.New("it grows faster than it can be read")
}
