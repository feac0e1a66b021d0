//go:build unix

package tickettest

import "syscall"

func (d *daemon) pause() error  { return d.cmd.Process.Signal(syscall.SIGSTOP) }
func (d *daemon) resume() error { return d.cmd.Process.Signal(syscall.SIGCONT) }
