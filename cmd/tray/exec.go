package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// withVars is this process's environment with vars in place of what it had. On
// Windows, where case does not count, only the upper-case names are kept.
func withVars(vars [][2]string) []string {
	var env []string
	taken := func(name string) bool {
		for _, v := range vars {
			if strings.EqualFold(v[0], name) {
				return true
			}
		}
		return strings.EqualFold(name, "ALL_PROXY")
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !taken(name) {
			env = append(env, kv)
		}
	}
	for _, v := range vars {
		if runtime.GOOS != "windows" || v[0] == strings.ToUpper(v[0]) {
			env = append(env, v[0]+"="+v[1])
		}
	}
	return env
}

// lookProgram finds a program as a shell would, with a shell's exit codes.
func lookProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", failf(127, "Check its name, or give its full path.", "There is no program %s.", name)
	case err != nil:
		return "", failf(126, "Check that it is a program you may run.", "%s cannot be run: %v.", name, errors.Unwrap(err))
	}
	return path, nil
}
