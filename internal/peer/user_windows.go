//go:build windows

package peer

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/windows"
)

// number is for systems where users have one.
func (User) number() uint32 { return 0 }

var ownUser = sync.OnceValues(func() (User, error) {
	return tokenUser(windows.GetCurrentProcessToken())
})

func tokenUser(token windows.Token) (User, error) {
	user, err := token.GetTokenUser()
	if err != nil {
		return "", err
	}
	return User(user.User.Sid.String()), nil
}

// processUser returns the user a process runs as.
func processUser(process windows.Handle) (User, error) {
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return "", err
	}
	defer token.Close()
	return tokenUser(token)
}

// openProcess opens a process to ask about it. As long as it is open, its id
// is not given to another one.
func openProcess(pid uint32) (windows.Handle, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	return h, nil
}

func checkUser(u User) error {
	if sid, err := windows.StringToSid(string(u)); err != nil || sid.String() != string(u) {
		return fmt.Errorf("%q is not a SID", u)
	}
	return nil
}

func parseUser(name string) (User, error) {
	if name == "" { // which Wine reads as S-1-0-0, nobody
		return "", errors.New("a user without a name is not known")
	}
	if sid, err := windows.StringToSid(name); err == nil {
		return User(sid.String()), nil
	}
	sid, _, kind, err := windows.LookupSID("", name)
	if err != nil {
		return "", fmt.Errorf("user %q is not known here; a SID works too: %w", name, err)
	}
	if kind != windows.SidTypeUser && kind != windows.SidTypeWellKnownGroup { // the latter: SYSTEM and its like
		return "", fmt.Errorf("%q is not a user", name)
	}
	return User(sid.String()), nil
}
