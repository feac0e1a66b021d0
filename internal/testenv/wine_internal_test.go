package testenv

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		name, out string
		err       error
		want      string // in the verdict; "" is none
	}{
		{"passed", "=== RUN   TestA\r\n--- PASS: TestA (0.00s)\r\nPASS\r\n", nil, ""},
		{"silent success", "", nil, "did not come to its end"},
		{"no test matched", "testing: warning: no tests to run\r\nPASS\r\n", nil, "no test ran"},
		{"skipped only", "--- SKIP: TestA (0.00s)\nPASS\n", nil, "no test ran"},
		{"only a subtest's line", "    --- PASS: TestA/b (0.00s)\nPASS\n", nil, "no test ran"},
		{"ended half-way", "--- PASS: TestA (0.00s)\n=== RUN   TestB\n", nil, "did not come to its end"},
		{"failed", "--- PASS: TestA (0.00s)\n--- FAIL: TestB (0.00s)\nFAIL\n", errors.New("exit status 1"), "FAIL: TestB"},
		{"failed, exit code lost", "--- PASS: TestA (0.00s)\n    --- FAIL: TestB/c (0.00s)\nPASS\n", nil, "FAIL: TestB/c"},
		{"exit code alone", "--- PASS: TestA (0.00s)\nPASS\n", errors.New("exit status 3"), "exit status 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := verdict(tt.out, tt.err)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestForwarderDLL(t *testing.T) {
	dll := forwarderDLL("fixture.dll", "Wanted", "OTHER.Present")
	f, err := pe.NewFile(bytes.NewReader(dll))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 || f.Characteristics&pe.IMAGE_FILE_DLL == 0 {
		t.Fatalf("not a 64-bit DLL: %+v", f.FileHeader)
	}
	data, err := f.Section(".edata").Data()
	if err != nil {
		t.Fatal(err)
	}
	exports := header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT]
	at := func(rva uint32) []byte {
		if rva < exports.VirtualAddress || rva >= exports.VirtualAddress+exports.Size {
			t.Fatalf("%#x lies outside the export directory", rva)
		}
		return data[rva-exports.VirtualAddress:]
	}
	number := func(rva uint32) uint32 { return binary.LittleEndian.Uint32(at(rva)) }
	text := func(rva uint32) string { s, _, _ := bytes.Cut(at(rva), []byte{0}); return string(s) }
	// Offsets of IMAGE_EXPORT_DIRECTORY.
	directory := exports.VirtualAddress
	if got := text(number(directory + 12)); got != "fixture.dll" {
		t.Errorf("name: got %q", got)
	}
	if got := text(number(number(directory + 28))); got != "OTHER.Present" {
		t.Errorf("function: got %q, want the forwarder's target", got)
	}
	if got := text(number(number(directory + 32))); got != "Wanted" {
		t.Errorf("export: got %q", got)
	}
}
