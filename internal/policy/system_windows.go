//go:build windows

package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const policies = `Software\Policies`

// ours is the key below policies; a test builds the program with another.
var ours = `Kerbpass`

// roots are the machine's policies and the person's, the stronger first.
// Windows lets only administrators write below either.
var roots = []struct {
	key  registry.Key
	name string
}{{registry.LOCAL_MACHINE, `HKLM\`}, {registry.CURRENT_USER, `HKCU\`}}

func systemSource() *Source { return &Source{read: readRegistry, watch: watchRegistry} }

func readRegistry() (p Policy) {
	for _, root := range roots {
		path := policies + `\` + ours
		name := root.name + path
		k, err := readKey(root.key, path, 2)
		switch {
		case errors.Is(err, registry.ErrNotExist):
		case err != nil:
			p.Problems = append(p.Problems, Problem{Name: name, Text: fmt.Sprintf("the policy cannot be read: %v", err), Hint: "Correct the permissions of the key", Broken: true})
		default:
			p.add(ofRegistry(name, k))
		}
	}
	return p
}

// readKey reads a key and those below it, as deep as a policy may be.
func readKey(root registry.Key, path string, depth int) (key, error) {
	k, err := registry.OpenKey(root, path, registry.QUERY_VALUE|registry.ENUMERATE_SUB_KEYS|registry.WOW64_64KEY)
	if err != nil {
		return key{}, err
	}
	defer k.Close()
	found := key{values: map[string]any{}, keys: map[string]key{}}
	names, err := k.ReadValueNames(-1)
	if err != nil {
		return key{}, err
	}
	for _, name := range names {
		found.values[name] = readValue(k, name)
	}
	if depth == 0 {
		return found, nil
	}
	subs, err := k.ReadSubKeyNames(-1)
	if err != nil {
		return key{}, err
	}
	for _, sub := range subs {
		switch below, err := readKey(root, path+`\`+sub, depth-1); {
		case err == nil:
			found.keys[sub] = below
		case !errors.Is(err, registry.ErrNotExist): // gone meanwhile
			return key{}, err
		}
	}
	return found, nil
}

func readValue(k registry.Key, name string) any {
	_, kind, err := k.GetValue(name, nil)
	if err != nil {
		return err
	}
	var v any
	switch kind {
	case registry.SZ:
		v, _, err = k.GetStringValue(name)
	case registry.MULTI_SZ:
		v, _, err = k.GetStringsValue(name)
	case registry.DWORD:
		v, _, err = k.GetIntegerValue(name)
	default:
		return fmt.Errorf("the type %d is not one of a policy", kind)
	}
	if err != nil {
		return err
	}
	return v
}

// watchRegistry waits for the keys and for ctx on one thread: a notification
// ends with the thread that asked for it.
func watchRegistry(ctx context.Context, report func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stop, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return fmt.Errorf("make an event: %w", err)
	}
	defer windows.CloseHandle(stop)
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		windows.SetEvent(stop)
		close(ended)
	})
	defer func() {
		if !cancel() {
			<-ended // the event must not be closed before it is set
		}
	}()
	for {
		stopped, err := waitOnce(stop, report)
		if stopped || err != nil {
			return err
		}
	}
}

// waitOnce asks for the next change before it reports, so that none falls
// between the two, and waits for it. Each time the keys are opened anew: they
// come and go with the policies.
func waitOnce(stop windows.Handle, report func()) (stopped bool, err error) {
	handles := []windows.Handle{stop}
	for _, root := range roots {
		for _, at := range []struct {
			path    string
			subtree bool
			what    uint32
		}{
			{policies, true, windows.REG_NOTIFY_CHANGE_NAME | windows.REG_NOTIFY_CHANGE_LAST_SET},
			{`Software`, false, windows.REG_NOTIFY_CHANGE_NAME}, // until there are policies at all
		} {
			k, err := registry.OpenKey(root.key, at.path, registry.NOTIFY|registry.WOW64_64KEY)
			if err != nil {
				continue
			}
			defer k.Close()
			event, err := windows.CreateEvent(nil, 0, 0, nil)
			if err != nil {
				return false, fmt.Errorf("make an event: %w", err)
			}
			defer windows.CloseHandle(event)
			if err := windows.RegNotifyChangeKeyValue(windows.Handle(k), at.subtree, at.what, event, true); err != nil {
				return false, fmt.Errorf("watch %s: %w", at.path, err)
			}
			handles = append(handles, event)
			break
		}
	}
	report()
	n, err := windows.WaitForMultipleObjects(handles, false, windows.INFINITE)
	if err != nil {
		return false, fmt.Errorf("wait: %w", err)
	}
	return n == windows.WAIT_OBJECT_0, nil
}
