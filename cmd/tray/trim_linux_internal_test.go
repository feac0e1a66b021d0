//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestPristine(t *testing.T) {
	const smaps = `00400000-00a7d000 r-xp 00000000 fe:00 5 /opt/my prog
Size:               6644 kB
Rss:                6000 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00a7d000-011be000 r--p 0067d000 fe:00 5 /opt/my prog
Anonymous:             0 kB
011be000-011bf000 r--p 00dbe000 fe:00 5 /opt/my prog
Anonymous:             4 kB
011bf000-01249000 rw-p 00dbf000 fe:00 5 /opt/my prog
Anonymous:             0 kB
01249000-0324b000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 6 /lib/libc.so.6
Anonymous:             0 kB
7f0000002000-7f0000003000 r-xs 00000000 fe:00 5 /opt/my prog
Anonymous:             0 kB
7f0000004000-7f0000005000 r--p 00000000 fe:00 5 /opt/my prog
`
	want := []memoryRange{{0x400000, 0xa7d000}, {0xa7d000, 0x11be000}}
	if got := pristine([]byte(smaps), "/opt/my prog"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// In a child, so that only its own pages count, and a crash is told from a
// failure.
func TestUnmapProgram(t *testing.T) {
	if os.Getenv("UNMAP") != "" {
		before := programPages(t)
		for range 3 {
			if err := unmapProgram(); err != nil {
				t.Fatal(err)
			}
		}
		after := programPages(t)
		t.Logf("%d KiB before, %d after", before, after)
		if after >= before {
			t.Error("the program has given nothing back")
		}
		// Code that has not run yet, and data, are as they were.
		if got := regexp.MustCompile(`(\w+) (\d+)`).ReplaceAllString("page 7", "$2 $1"); got != "7 page" {
			t.Errorf("got %q", got)
		}
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestUnmapProgram$", "-test.v")
	cmd.Env = append(os.Environ(), "UNMAP=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// programPages is how much of the program's file is mapped in now, in KiB.
func programPages(t *testing.T) (kib int) {
	t.Helper()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	mine := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 5 && !strings.HasSuffix(f[0], ":") {
			mine = strings.HasSuffix(strings.TrimSpace(line), exe)
		}
		if mine && len(f) == 3 && f[0] == "Rss:" {
			n, _ := strconv.Atoi(f[1])
			kib += n
		}
	}
	return kib
}

// What only a desktop needs is not made before main: the start of every command
// would pay for it, and the proxy without a desktop would keep it. The runtime
// tells what each package has allocated by then.
func TestStartMakesLittle(t *testing.T) {
	const most = 64 << 10 // bytes; the compiled texts alone are 300 KiB
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		// init kerbpass/internal/ui @3.9 ms, 0.13 ms clock, 40416 bytes, 372 allocs
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != "init" || !strings.HasPrefix(f[1], "kerbpass/") {
			continue
		}
		packages++
		size, err := strconv.Atoi(f[len(f)-4])
		if err != nil || size > most {
			t.Errorf("more than %d bytes before main: %s", most, line)
		}
	}
	if packages < 3 {
		t.Errorf("%d packages of ours were traced:\n%s", packages, out)
	}
}
