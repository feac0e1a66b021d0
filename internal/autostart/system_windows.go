//go:build windows

package autostart

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"unicode/utf16"
	"unsafe"
)

// maxRunValue is how long a command below the Run key may be, in UTF-16 units;
// Windows does not start a longer one.
const maxRunValue = 260

const (
	runKey      = `Software\Microsoft\Windows\CurrentVersion\Run`
	approvedKey = `Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run`
)

// run keeps the entries as values below the Run keys of the user and of the
// machine, each with StartupApproved beside it. Both start.
type run struct {
	name    string
	command []string
}

func newSystem(cfg Config) (system, error) { return run{cfg.ID, cfg.Command}, nil }

func (r run) user() (found, error)  { return r.read(hkcu) }
func (r run) admin() (found, error) { return r.read(hklm) }
func (r run) shadows() bool         { return false }

func (r run) read(h hive) (found, error) {
	f := found{where: h.name + `\` + runKey + `\` + r.name}
	kind, text, err := h.value(runKey, r.name)
	switch {
	case errors.Is(err, syscall.ERROR_FILE_NOT_FOUND):
		return f, nil
	case err != nil:
		return f, err
	}
	f.present = true
	if kind == syscall.REG_SZ || kind == syscall.REG_EXPAND_SZ {
		f.command = splitCommandLine(decodeUTF16(text))
	}
	_, approved, err := h.value(approvedKey, r.name)
	switch {
	case errors.Is(err, syscall.ERROR_FILE_NOT_FOUND):
	case err != nil:
		return f, err
	case turnedOff(approved):
		f.off = "disabled in Task Manager"
	}
	return f, nil
}

func (r run) write() error {
	text, err := syscall.UTF16FromString(commandLine(r.command))
	if err != nil {
		return err
	}
	if len(text) > maxRunValue {
		return fmt.Errorf("the command is %d characters long, and Windows starts none of more than %d at login: move the program to a folder with a shorter path", len(text)-1, maxRunValue-1)
	}
	return hkcu.setString(runKey, r.name, text)
}

// remove also takes back what the user said about the entry that is gone.
func (r run) remove() error {
	return errors.Join(hkcu.deleteValue(runKey, r.name), hkcu.deleteValue(approvedKey, r.name))
}

func (r run) hide() error {
	if err := r.remove(); err != nil {
		return err
	}
	return fmt.Errorf(`%s\%s\%s: %w`, hklm.name, runKey, r.name, ErrByAdmin)
}

// hive is one of the registry's roots.
type hive struct {
	root syscall.Handle
	name string
}

var (
	hkcu = hive{syscall.HKEY_CURRENT_USER, "HKCU"}
	hklm = hive{syscall.HKEY_LOCAL_MACHINE, "HKLM"}
)

// The registry functions that the frozen package syscall lacks. They report by
// their result, not by GetLastError.
var (
	advapi32       = syscall.NewLazyDLL("advapi32.dll")
	regCreateKeyEx = advapi32.NewProc("RegCreateKeyExW")
	regSetValueEx  = advapi32.NewProc("RegSetValueExW")
	regDeleteValue = advapi32.NewProc("RegDeleteValueW")
)

func (h hive) open(key string, access uint32) (syscall.Handle, error) {
	path, err := syscall.UTF16PtrFromString(key)
	if err != nil {
		return 0, err
	}
	var handle syscall.Handle
	// The view of 64-bit programs, where the system itself looks.
	err = syscall.RegOpenKeyEx(h.root, path, 0, access|syscall.KEY_WOW64_64KEY, &handle)
	return handle, h.failed("open", key, err)
}

func (h hive) failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(`%s %s\%s: %w`, op, h.name, key, err)
}

// value reads one value; ERROR_FILE_NOT_FOUND if it or its key is not there.
func (h hive) value(key, name string) (kind uint32, data []byte, err error) {
	handle, err := h.open(key, syscall.KEY_QUERY_VALUE)
	if err != nil {
		return 0, nil, err
	}
	defer syscall.RegCloseKey(handle)
	ptr, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return 0, nil, err
	}
	data = make([]byte, maxFile)
	size := uint32(len(data))
	err = syscall.RegQueryValueEx(handle, ptr, nil, &kind, &data[0], &size)
	if err != nil {
		return 0, nil, h.failed("read", key+`\`+name, err)
	}
	return kind, data[:size], nil
}

func (h hive) setString(key, name string, text []uint16) error {
	path, err := syscall.UTF16PtrFromString(key)
	if err != nil {
		return err
	}
	ptr, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	var handle syscall.Handle
	// Each pointer is to memory that the call only reads or fills.
	r, _, _ := regCreateKeyEx.Call(uintptr(h.root), uintptr(unsafe.Pointer(path)), 0, 0, 0,
		syscall.KEY_SET_VALUE|syscall.KEY_WOW64_64KEY, 0, uintptr(unsafe.Pointer(&handle)), 0)
	if r != 0 {
		return h.failed("make", key, syscall.Errno(r))
	}
	defer syscall.RegCloseKey(handle)
	r, _, _ = regSetValueEx.Call(uintptr(handle), uintptr(unsafe.Pointer(ptr)), 0, syscall.REG_SZ,
		uintptr(unsafe.Pointer(&text[0])), uintptr(2*len(text)))
	if r != 0 {
		return h.failed("write", key+`\`+name, syscall.Errno(r))
	}
	return nil
}

// deleteValue removes a value; one that is not there is no error.
func (h hive) deleteValue(key, name string) error {
	handle, err := h.open(key, syscall.KEY_SET_VALUE)
	if errors.Is(err, syscall.ERROR_FILE_NOT_FOUND) {
		return nil
	}
	if err != nil {
		return err
	}
	defer syscall.RegCloseKey(handle)
	ptr, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	r, _, _ := regDeleteValue.Call(uintptr(handle), uintptr(unsafe.Pointer(ptr)))
	if errno := syscall.Errno(r); errno != 0 && errno != syscall.ERROR_FILE_NOT_FOUND {
		return h.failed("delete", key+`\`+name, errno)
	}
	return nil
}

// decodeUTF16 reads text up to its terminator, which may be missing.
func decodeUTF16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
	}
	if end := slices.Index(units, 0); end >= 0 {
		units = units[:end]
	}
	return string(utf16.Decode(units))
}
