//go:build windows

package autostart

import (
	"cmp"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"
	"unsafe"
)

// The test program, too, is what Windows starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "report" {
		if conn, err := net.Dial("tcp", os.Args[2]); err == nil {
			_ = json.NewEncoder(conn).Encode(os.Args) // seen by the test
			conn.Close()
		}
		return
	}
	os.Exit(m.Run())
}

// testID is a name that no program has, nor another run of these tests.
var testID = cmp.Or(os.Getenv("ENTRY_ID"), "kerbpass-test")

// registry returns the entry of that name, gone at the end.
func registry(t *testing.T, command ...string) *Entry {
	t.Helper()
	e, err := New(Config{ID: testID, Name: "Kerbpass", Command: command})
	if err != nil {
		t.Fatal(err)
	}
	clean := func() {
		for _, h := range []hive{hkcu, hklm} {
			if err := errors.Join(h.deleteValue(runKey, testID), h.deleteValue(approvedKey, testID)); err != nil {
				t.Error(err)
			}
		}
	}
	clean()
	t.Cleanup(clean)
	return e
}

// setBytes writes what the Task Manager would.
func (h hive) setBytes(t *testing.T, key string, data ...byte) {
	t.Helper()
	path, _ := syscall.UTF16PtrFromString(key)
	name, _ := syscall.UTF16PtrFromString(testID)
	var handle syscall.Handle
	r, _, _ := regCreateKeyEx.Call(uintptr(h.root), uintptr(unsafe.Pointer(path)), 0, 0, 0, syscall.KEY_SET_VALUE, 0, uintptr(unsafe.Pointer(&handle)), 0)
	if r != 0 {
		t.Fatal(syscall.Errno(r))
	}
	defer syscall.RegCloseKey(handle)
	r, _, _ = regSetValueEx.Call(uintptr(handle), uintptr(unsafe.Pointer(name)), 0, syscall.REG_BINARY, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)))
	if r != 0 {
		t.Fatal(syscall.Errno(r))
	}
}

func checkStatus(t *testing.T, e *Entry, want Status) {
	t.Helper()
	got, err := e.Status()
	if err != nil {
		t.Fatal(err)
	}
	where := `HKCU\` + runKey + `\` + testID
	if want.By == ByAdmin {
		where = `HKLM\` + runKey + `\` + testID
	}
	if got.Enabled != want.Enabled || got.By != want.By || got.Stale != want.Stale || !strings.Contains(got.Detail, want.Detail) || got.Where != where {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func check(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestRunKey(t *testing.T) {
	e := registry(t, `C:\Program Files\Kerbpass\kerbpass.exe`)
	checkStatus(t, e, Status{})
	check(t, e.Repair(), nil)
	checkStatus(t, e, Status{})
	check(t, e.Enable(), nil)
	check(t, e.Enable(), nil)
	checkStatus(t, e, Status{Enabled: true, By: ByUser})
	kind, data, err := hkcu.value(runKey, testID)
	if got := decodeUTF16(data); err != nil || kind != syscall.REG_SZ || got != `"C:\Program Files\Kerbpass\kerbpass.exe"` {
		t.Errorf("got %d %s, %v", kind, got, err)
	}

	moved := &Entry{[]string{`D:\k\KERBPASS.exe`}, nil, run{testID, []string{`D:\k\KERBPASS.exe`}}}
	checkStatus(t, moved, Status{Enabled: true, By: ByUser, Stale: true, Detail: "Program Files"})
	check(t, moved.Repair(), nil) // the old one never was there
	checkStatus(t, moved, Status{Enabled: true, By: ByUser})

	foreign := &Entry{[]string{`C:\other.exe`}, nil, run{testID, []string{`C:\other.exe`}}}
	check(t, foreign.Enable(), ErrForeign)
	check(t, foreign.Disable(), ErrForeign)

	// The windowed program takes over what the console's wrote.
	windowed := &Entry{[]string{`D:\k\kerbpassw.exe`}, []string{"kerbpass.exe"}, run{testID, []string{`D:\k\kerbpassw.exe`}}}
	checkStatus(t, windowed, Status{Enabled: true, By: ByUser, Stale: true, Detail: "KERBPASS.exe"})
	check(t, windowed.Enable(), nil)
	checkStatus(t, windowed, Status{Enabled: true, By: ByUser})
	check(t, moved.Disable(), ErrForeign)
	check(t, windowed.Disable(), nil)
	check(t, moved.Disable(), nil)
	check(t, moved.Disable(), nil)
	checkStatus(t, moved, Status{})
}

func TestTaskManagerIsRespected(t *testing.T) {
	e := registry(t, `C:\kerbpass.exe`)
	check(t, e.Enable(), nil)
	hkcu.setBytes(t, approvedKey, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	checkStatus(t, e, Status{Enabled: true, By: ByUser})
	off := []byte{3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	hkcu.setBytes(t, approvedKey, off...)
	checkStatus(t, e, Status{By: ByUser, Detail: "disabled in Task Manager"})
	check(t, e.Enable(), ErrTurnedOff)
	check(t, e.Repair(), nil)
	if _, got, err := hkcu.value(approvedKey, testID); err != nil || !slices.Equal(got, off) {
		t.Errorf("StartupApproved was changed: %v, %v", got, err)
	}
	check(t, e.Disable(), nil)
	if _, _, err := hkcu.value(approvedKey, testID); !errors.Is(err, syscall.ERROR_FILE_NOT_FOUND) {
		t.Errorf("our StartupApproved value stays behind: %v", err)
	}
	check(t, e.Enable(), nil)
	checkStatus(t, e, Status{Enabled: true, By: ByUser})
}

func TestAdministratorsRunKey(t *testing.T) {
	e := registry(t, `C:\kerbpass.exe`)
	check(t, e.Enable(), nil)
	check(t, hklm.setString(runKey, testID, append(utf16.Encode([]rune(`"C:\kerbpass.exe"`)), 0)), nil)
	check(t, e.Enable(), nil) // and not started twice
	checkStatus(t, e, Status{Enabled: true, By: ByAdmin})
	check(t, e.Disable(), ErrByAdmin)
	hklm.setBytes(t, approvedKey, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	checkStatus(t, e, Status{By: ByAdmin, Detail: "Task Manager"})
	check(t, e.Disable(), nil)
}

func TestLongCommand(t *testing.T) {
	fits := `C:\` + strings.Repeat("x", 259-2-len(`C:\`))
	check(t, registry(t, fits).Enable(), nil)
	if err := registry(t, fits+"x").Enable(); err == nil {
		t.Error("260 characters were accepted")
	}
}

// Windows takes our command lines apart as we do.
func TestWindowsSplitsAlike(t *testing.T) {
	for _, line := range []string{
		commandLine(append([]string{`C:\a b\k.exe`}, odd[1:]...)), `C:\k.exe a\\"b c"\" d`, `"C:\k"x y`, `k a"b c"d`, "k\ta \t b ",
	} {
		ptr, err := syscall.UTF16PtrFromString(line)
		if err != nil {
			t.Fatal(err)
		}
		var n int32
		argv, err := syscall.CommandLineToArgv(ptr, &n)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, arg := range argv[:n] {
			units := (*arg)[:]
			want = append(want, string(utf16.Decode(units[:slices.Index(units, 0)])))
		}
		if got := splitCommandLine(line); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
		syscall.LocalFree(syscall.Handle(uintptr(unsafe.Pointer(argv))))
	}
}

// TestEnterForStart and TestLeaveAfterStart are the two ends of a test that
// has Wine log in between; by themselves they do nothing lasting.
func TestEnterForStart(t *testing.T) {
	addr := os.Getenv("REPORT_TO")
	if addr == "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{ID: testID, Name: "Kerbpass", Command: []string{self, "report", addr, `a "b\`}})
	check(t, err, nil)
	check(t, e.Enable(), nil)
}

func TestLeaveAfterStart(t *testing.T) { registry(t, `C:\kerbpass.exe`) }
