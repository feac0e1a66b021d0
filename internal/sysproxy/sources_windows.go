//go:build windows

package sysproxy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const (
	inetKey   = `Software\Microsoft\Windows\CurrentVersion\Internet Settings`
	policyKey = `Software\Policies\Microsoft\Windows\CurrentVersion\Internet Settings`
)

var (
	winhttp           = windows.NewLazySystemDLL("winhttp.dll")
	getIEProxyConfig  = winhttp.NewProc("WinHttpGetIEProxyConfigForCurrentUser")
	getDefaultProxy   = winhttp.NewProc("WinHttpGetDefaultProxyConfiguration")
	globalFree        = windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalFree")
	errNotInThisWorld = errors.New("winhttp.dll does not have the function")
)

func systemSources(Config) []source {
	return []source{{SourceWindows, func(_ context.Context, c Config) []Setting {
		const netsh = "netsh winhttp show proxy"
		all := inUse(c)
		machine, err := winhttpDefault()
		if f := c.finding(SourceWindows, netsh); err != nil {
			f.problem("%v", err)
			all = append(all, f.done()...)
		} else {
			all = append(all, windowsSetting(f, machine)...)
		}
		if len(all) == 0 {
			return []Setting{{Source: SourceWindows, Name: `HKCU\` + inetKey, Off: true}}
		}
		return all
	}}}
}

// inUse is what counts for this user: his own settings, or the machine's where
// the policy says that all have the same.
func inUse(c Config) []Setting {
	if perMachine() {
		return windowsSetting(c.finding(SourceWindows, `HKLM\`+inetKey+" (policy: the same for all users)"), fromRegistry(registry.LOCAL_MACHINE))
	}
	f := c.finding(SourceWindows, `HKCU\`+inetKey)
	mine, err := currentUser()
	if err != nil {
		mine = fromRegistry(registry.CURRENT_USER)
	}
	return windowsSetting(f, mine)
}

func openKey(root registry.Key, path string, access uint32) (registry.Key, error) {
	return registry.OpenKey(root, path, access|registry.WOW64_64KEY)
}

func perMachine() bool {
	k, err := openKey(registry.LOCAL_MACHINE, policyKey, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	defer k.Close()
	v, _, err := k.GetIntegerValue("ProxySettingsPerUser")
	return err == nil && v == 0
}

// fromRegistry reads the values, and what only the binary one knows.
func fromRegistry(root registry.Key) (i internetSettings) {
	if k, err := openKey(root, inetKey+`\Connections`, registry.QUERY_VALUE); err == nil {
		if blob, _, err := k.GetBinaryValue("DefaultConnectionSettings"); err == nil {
			i, _ = parseBlob(blob)
		}
		k.Close()
	}
	k, err := openKey(root, inetKey, registry.QUERY_VALUE)
	if err != nil {
		return i
	}
	defer k.Close()
	if on, _, err := k.GetIntegerValue("ProxyEnable"); err == nil {
		i.proxy, i.bypass = "", ""
		if on != 0 {
			i.proxy, _, _ = k.GetStringValue("ProxyServer")
			i.bypass, _, _ = k.GetStringValue("ProxyOverride")
		}
	}
	if pac, _, err := k.GetStringValue("AutoConfigURL"); err == nil {
		i.pac = pac
	}
	return i
}

// ieConfig is WINHTTP_CURRENT_USER_IE_PROXY_CONFIG.
type ieConfig struct {
	autoDetect         int32
	pac, proxy, bypass *uint16
}

func currentUser() (i internetSettings, err error) {
	if getIEProxyConfig.Find() != nil {
		return i, errNotInThisWorld
	}
	var c ieConfig
	// The call fills in c and hands over its strings.
	if r, _, err := getIEProxyConfig.Call(uintptr(unsafe.Pointer(&c))); r == 0 {
		return i, fmt.Errorf("WinHttpGetIEProxyConfigForCurrentUser: %w", err)
	}
	return internetSettings{c.autoDetect != 0, taken(c.pac), taken(c.proxy), taken(c.bypass)}, nil
}

// proxyInfo is WINHTTP_PROXY_INFO.
type proxyInfo struct {
	access        uint32
	proxy, bypass *uint16
}

const accessNamedProxy = 3 // WINHTTP_ACCESS_TYPE_NAMED_PROXY

func winhttpDefault() (i internetSettings, err error) {
	if getDefaultProxy.Find() != nil {
		return i, errNotInThisWorld
	}
	var p proxyInfo
	// As above.
	if r, _, err := getDefaultProxy.Call(uintptr(unsafe.Pointer(&p))); r == 0 {
		return i, fmt.Errorf("WinHttpGetDefaultProxyConfiguration: %w", err)
	}
	if i.proxy, i.bypass = taken(p.proxy), taken(p.bypass); p.access != accessNamedProxy {
		return internetSettings{}, nil
	}
	return i, nil
}

// taken copies a string that Windows allocated for us, and frees it.
func taken(p *uint16) string {
	if p == nil {
		return ""
	}
	s := windows.UTF16PtrToString(p)
	globalFree.Call(uintptr(unsafe.Pointer(p)))
	return s
}

func systemWatchers(Config) []watcher { return []watcher{{"registry", watchRegistry}} }

// watchRegistry waits for the keys and for ctx on one thread: a notification
// ends with the thread that asked for it.
func watchRegistry(ctx context.Context, _ Config, report func()) error {
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
	type watched struct {
		key   registry.Key
		event windows.Handle
	}
	var keys []watched
	defer func() {
		for _, w := range keys {
			w.key.Close()
			windows.CloseHandle(w.event)
		}
	}()
	ask := func(w watched) error {
		return windows.RegNotifyChangeKeyValue(windows.Handle(w.key), true,
			windows.REG_NOTIFY_CHANGE_NAME|windows.REG_NOTIFY_CHANGE_LAST_SET, w.event, true)
	}
	for _, k := range []struct {
		root registry.Key
		path string
	}{
		{registry.CURRENT_USER, inetKey},
		{registry.LOCAL_MACHINE, inetKey},
		{registry.LOCAL_MACHINE, `Software\Policies`}, // the policy's own key may not exist yet
	} {
		key, err := openKey(k.root, k.path, registry.NOTIFY)
		if err != nil {
			continue
		}
		event, err := windows.CreateEvent(nil, 0, 0, nil)
		if err != nil {
			key.Close()
			return fmt.Errorf("make an event: %w", err)
		}
		keys = append(keys, watched{key, event})
		if err := ask(keys[len(keys)-1]); err != nil {
			return fmt.Errorf(`watch %s: %w`, k.path, err)
		}
	}
	if len(keys) == 0 {
		return errors.New("no key can be watched")
	}
	report()
	handles := []windows.Handle{stop}
	for _, w := range keys {
		handles = append(handles, w.event)
	}
	for {
		n, err := windows.WaitForMultipleObjects(handles, false, windows.INFINITE)
		switch {
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case n == windows.WAIT_OBJECT_0:
			return nil
		}
		if err := ask(keys[n-windows.WAIT_OBJECT_0-1]); err != nil {
			return fmt.Errorf("watch again: %w", err)
		}
		report()
	}
}
