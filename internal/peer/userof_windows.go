//go:build windows

package peer

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// userOf answers for either end of a named pipe.
func userOf(fd uintptr) (User, error) {
	pipe := windows.Handle(fd)
	var flags uint32
	if err := windows.GetNamedPipeInfo(pipe, &flags, nil, nil, nil); err != nil {
		return "", err
	}
	if flags&windows.PIPE_SERVER_END != 0 {
		return pipeClient(pipe)
	}
	return pipeServer(pipe)
}

func pipeClient(pipe windows.Handle) (User, error) {
	var pid uint32
	if err := windows.GetNamedPipeClientProcessId(pipe, &pid); err != nil {
		return "", err
	}
	return userOfProcess(pid)
}

// pipeServer returns the server's user only if the pipe is that user's too. The
// system remembers the id of the process that made the pipe, which may have
// ended and left the pipe to another; nobody can make a pipe that belongs to
// someone else.
func pipeServer(pipe windows.Handle) (User, error) {
	var pid uint32
	if err := windows.GetNamedPipeServerProcessId(pipe, &pid); err != nil {
		return "", err
	}
	user, err := userOfProcess(pid)
	if err != nil {
		return "", err
	}
	security, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return "", fmt.Errorf("owner of the pipe: %w", err)
	}
	sid, _, err := security.Owner()
	if err != nil {
		return "", fmt.Errorf("owner of the pipe: %w", err)
	}
	if sid == nil || User(sid.String()) != user {
		return "", fmt.Errorf("the pipe of process %d, user %s, belongs to %v", pid, user, sid)
	}
	return user, nil
}

func userOfProcess(pid uint32) (User, error) {
	process, err := openProcess(pid)
	if err != nil {
		return "", err
	}
	defer windows.CloseHandle(process)
	return processUser(process)
}
