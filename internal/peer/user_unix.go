//go:build !windows

package peer

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"strconv"
)

// invalidUID is (uid_t)-1, which setreuid and friends read as "no change".
const invalidUID = math.MaxUint32

func uidUser(uid uint32) User { return User(strconv.FormatUint(uint64(uid), 10)) }

// number returns the user id.
func (u User) number() uint32 {
	uid, _ := strconv.ParseUint(string(u), 10, 32) // made by uidUser
	return uint32(uid)
}

func ownUser() (User, error) {
	uid := os.Geteuid()
	if uid < 0 {
		return "", fmt.Errorf("user ids: %w", errors.ErrUnsupported)
	}
	return uidUser(uint32(uid)), nil
}

// checkUser returns nil for what uidUser can have made.
func checkUser(u User) error {
	uid, err := strconv.ParseUint(string(u), 10, 32)
	if err != nil || uid == invalidUID || uidUser(uint32(uid)) != u {
		return fmt.Errorf("user id %s is not a user", u)
	}
	return nil
}

func parseUser(name string) (User, error) {
	if uid, err := strconv.ParseUint(name, 10, 32); err == nil {
		u := uidUser(uint32(uid))
		return u, checkUser(u)
	}
	account, err := user.Lookup(name)
	if err != nil {
		return "", fmt.Errorf("user %q is not known here; a numeric user id works too: %w", name, err)
	}
	u := User(account.Uid)
	if checkUser(u) != nil {
		return "", fmt.Errorf("user %q has no numeric id on this system: %w", name, errors.ErrUnsupported)
	}
	return u, nil
}
