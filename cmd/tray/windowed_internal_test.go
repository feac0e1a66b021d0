package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestTwin(t *testing.T) {
	dir := t.TempDir()
	exe := filepath.Join(dir, consoleProgram)
	if got := twin(exe); got != exe {
		t.Errorf("alone: got %s", got)
	}
	other := filepath.Join(dir, windowedProgram)
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := twin(exe); got != exe {
		t.Errorf("beside a folder: got %s", got)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := twin(exe); got != other {
		t.Errorf("got %s, want %s", got, other)
	}
}

// The other process is this test, which waits for its input to end.
func TestProcessGone(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("TEST_WAIT") != "" {
		os.Stdin.Read(make([]byte, 1))
		return
	}
	cmd := exec.Command(self, "-test.run=^TestProcessGone$")
	cmd.Env = append(os.Environ(), "TEST_WAIT=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan error, 1)
	go func() { reaped <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := processGone(ctx, cmd.Process.Pid); err == nil {
		t.Error("gone while it runs")
	}
	in.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := processGone(ctx, cmd.Process.Pid); err != nil {
		t.Errorf("not gone: %v", err)
	}
	if err := <-reaped; err != nil {
		t.Error(err)
	}
}
