//go:build linux

package sysproxy

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// A scutil that behaves as the real one: it prints its dictionary, and, told
// to watch, a line for each change, as long as somebody holds its input.
const fakeScutil = `#!/bin/sh
if [ "$1" = --proxy ]; then
	printf '<dictionary> {\n  HTTPEnable : 1\n  HTTPPort : 8080\n  HTTPProxy : proxy\n}\n'
	exit 0
fi
read add && read watch || exit 1
[ "$add" = "n.add State:/Network/Global/Proxies" ] && [ "$watch" = n.watch ] || exit 1
: >"$HOME/watching"
mkfifo "$HOME/changes" && exec 3<>"$HOME/changes"
while read line <&3; do
	[ "$line" = end ] && exit 0
	echo "notification callback (store address = 0x600)."
	echo "  changed key [0] = $line"
done
`

func TestScutilProgram(t *testing.T) {
	testenv.NoLeaks(t)
	home := t.TempDir()
	program := filepath.Join(home, "scutil")
	if err := os.WriteFile(program, []byte(fakeScutil), 0o755); err != nil {
		t.Fatal(err)
	}
	c := config("HOME", home, "PATH", os.Getenv("PATH"))
	check(t, scutil(t.Context(), c, program), "", Setting{Source: SourceMacOS, Name: "scutil --proxy", Upstreams: []string{"http://proxy:8080"}})
	check(t, scutil(t.Context(), c, program+"x"), "no such file", Setting{Source: SourceMacOS, Name: "scutil --proxy"})

	reports, ended := make(chan struct{}, 10), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run := func() { ended <- watchScutil(ctx, c, program, func() { reports <- struct{}{} }) }
	wait := func(what string) {
		t.Helper()
		select {
		case <-reports:
		case err := <-ended:
			t.Fatalf("%s: it ended: %v", what, err)
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: nothing is reported", what)
		}
	}
	go run()
	wait("ready")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(home, "changes")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not asked to watch")
		}
	}
	fifo, err := os.OpenFile(filepath.Join(home, "changes"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	say := func(s string) {
		if _, err := fifo.WriteString(s + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	say("State:/Network/Global/IPv4")
	say(scutilKey)
	wait("changed")
	say(scutilKey)
	wait("changed again")
	if len(reports) != 0 {
		t.Error("another key was reported")
	}
	say("end")
	if err := <-ended; err == nil {
		t.Error("a scutil that ends is no error")
	}
	if err := os.Remove(filepath.Join(home, "changes")); err != nil {
		t.Fatal(err)
	}
	go run()
	wait("ready again")
	cancel()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it does not end with its context")
	}
}
