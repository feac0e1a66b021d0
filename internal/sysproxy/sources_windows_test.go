//go:build windows

package sysproxy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows/registry"
)

// set writes one value, in a key that is made if need be, and puts things back
// at the end of the test. A nil value deletes it.
func set(t *testing.T, root registry.Key, path, name string, value any) {
	t.Helper()
	k, existed, err := registry.CreateKey(root, path, registry.QUERY_VALUE|registry.SET_VALUE|registry.WOW64_64KEY)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	put := func(k registry.Key, value any) error {
		switch v := value.(type) {
		case []byte:
			return k.SetBinaryValue(name, v)
		case string:
			return k.SetStringValue(name, v)
		case uint32:
			return k.SetDWordValue(name, v)
		}
		if err := k.DeleteValue(name); !errors.Is(err, registry.ErrNotExist) {
			return err
		}
		return nil
	}
	var before any
	if b, _, err := k.GetBinaryValue(name); err == nil {
		before = b
	} else if s, _, err := k.GetStringValue(name); err == nil {
		before = s
	} else if n, _, err := k.GetIntegerValue(name); err == nil {
		before = uint32(n)
	}
	t.Cleanup(func() {
		k, err := registry.OpenKey(root, path, registry.SET_VALUE|registry.WOW64_64KEY)
		if err == nil {
			err = put(k, before)
			k.Close()
		}
		if err == nil && !existed {
			err = registry.DeleteKey(root, path)
		}
		if err != nil {
			t.Errorf("put %s back: %v", name, err)
		}
	})
	if err := put(k, value); err != nil {
		t.Fatal(err)
	}
}

const (
	connections = inetKey + `\Connections`
	connection  = "DefaultConnectionSettings"
	winhttpSet  = "WinHttpSettings"
)

func windowsRead(t *testing.T, env ...string) []Setting {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return Read(ctx, config(env...))
}

func TestUserSettings(t *testing.T) {
	set(t, registry.LOCAL_MACHINE, connections, winhttpSet, nil)
	user := Setting{Source: SourceWindows, Name: `HKCU\` + inetKey}
	with := func(f func(*Setting)) Setting { s := user; f(&s); return s }
	off := with(func(s *Setting) { s.Off = true })
	for _, tt := range []struct {
		name, problem string
		blob          []byte
		want          Setting
	}{
		{"nothing", "", blob(1, "", "", ""), off},
		{"switched off", "", blob(1, "p:1", "<local>", "http://w/p"), off},
		{"proxy", "", blob(3, "p:1;q:2", "*.corp;<local>", ""), with(func(s *Setting) {
			s.Upstreams, s.NoProxy = []string{"http://p:1", "http://q:2"}, []string{"*.corp", "<local>"}
		})},
		{"by protocol", "http://p:1", blob(3, "http=p:1;https=s:2", "", ""), with(func(s *Setting) { s.Upstreams = []string{"http://s:2"} })},
		{"script", "", blob(5, "", "", "http://w/p.pac"), with(func(s *Setting) { s.PAC = "http://w/p.pac" })},
		{"ourselves", "this program itself", blob(3, "127.0.0.1:5372", "", ""), user},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set(t, registry.CURRENT_USER, connections, connection, tt.blob)
			check(t, windowsRead(t), tt.problem, tt.want)
		})
	}
}

// "netsh winhttp set proxy" counts where the user has set none.
func TestWinHTTPDefault(t *testing.T) {
	set(t, registry.CURRENT_USER, connections, connection, blob(1, "", "", ""))
	// As the user's blob, with another version and no counter.
	b := blob(3, "machine:3128", "<local>", "")
	b[0], b[4] = 0x18, 0
	set(t, registry.LOCAL_MACHINE, connections, winhttpSet, b)
	machine := Setting{Source: SourceWindows, Name: "netsh winhttp show proxy", Upstreams: []string{"http://machine:3128"}, NoProxy: []string{"<local>"}}
	check(t, windowsRead(t), "", machine)
	set(t, registry.CURRENT_USER, connections, connection, blob(3, "mine:1", "", ""))
	check(t, windowsRead(t), "", Setting{Source: SourceWindows, Name: `HKCU\` + inetKey, Upstreams: []string{"http://mine:1"}}, machine)
}

// With the policy the machine's settings count, and the user's do not.
func TestMachinePolicy(t *testing.T) {
	set(t, registry.LOCAL_MACHINE, connections, winhttpSet, nil)
	set(t, registry.CURRENT_USER, connections, connection, blob(3, "mine:1", "", ""))
	set(t, registry.LOCAL_MACHINE, inetKey, "ProxyEnable", uint32(1))
	set(t, registry.LOCAL_MACHINE, inetKey, "ProxyServer", "http=p:1;https=all:2")
	set(t, registry.LOCAL_MACHINE, inetKey, "ProxyOverride", "*.corp")
	set(t, registry.LOCAL_MACHINE, inetKey, "AutoConfigURL", "http://w/p.pac")
	set(t, registry.LOCAL_MACHINE, policyKey, "ProxySettingsPerUser", uint32(1))
	if got := windowsRead(t); len(got) != 1 || got[0].Upstreams[0] != "http://mine:1" {
		t.Errorf("without the policy: %+v", got)
	}
	set(t, registry.LOCAL_MACHINE, policyKey, "ProxySettingsPerUser", uint32(0))
	got := windowsRead(t)
	if len(got) != 1 || !strings.HasPrefix(got[0].Name, `HKLM\`) {
		t.Fatalf("got %+v", got)
	}
	check(t, got, "http://p:1", Setting{Source: SourceWindows, Name: got[0].Name, Upstreams: []string{"http://all:2"}, PAC: "http://w/p.pac", NoProxy: []string{"*.corp"}})
	set(t, registry.LOCAL_MACHINE, inetKey, "ProxyEnable", uint32(0))
	if got := windowsRead(t); len(got) != 1 || len(got[0].Upstreams) != 0 || got[0].PAC == "" {
		t.Errorf("switched off: %+v", got)
	}
}

func TestRegistryValues(t *testing.T) {
	set(t, registry.CURRENT_USER, connections, connection, blob(8|3, "old:1", "", ""))
	set(t, registry.CURRENT_USER, inetKey, "ProxyEnable", uint32(1))
	set(t, registry.CURRENT_USER, inetKey, "ProxyServer", "new:2")
	if got := fromRegistry(registry.CURRENT_USER); got.proxy != "new:2" || !got.autoDetect {
		t.Errorf("got %+v", got)
	}
}

func TestWatchRegistry(t *testing.T) {
	set(t, registry.LOCAL_MACHINE, connections, winhttpSet, nil)
	set(t, registry.CURRENT_USER, connections, connection, blob(1, "", "", ""))
	ctx, cancel := context.WithCancel(context.Background())
	changes, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, config(), func() {
			select {
			case changes <- struct{}{}:
			default:
			}
		})
	}()
	until := func(want string) {
		t.Helper()
		limit := time.After(time.Minute)
		for {
			select {
			case <-changes:
				if ups, _, _ := Choose(windowsRead(t)); strings.Join(ups, " ") == want {
					return
				}
			case <-limit:
				t.Fatalf("no change led to %q", want)
			}
		}
	}
	until("")
	for _, p := range []string{"a:1", "b:2", "c:3"} {
		set(t, registry.CURRENT_USER, connections, connection, blob(3, p, "", ""))
		until("http://" + p)
	}
	set(t, registry.LOCAL_MACHINE, inetKey, "ProxyEnable", uint32(1))
	set(t, registry.LOCAL_MACHINE, inetKey, "ProxyServer", "machine:4")
	set(t, registry.LOCAL_MACHINE, policyKey, "ProxySettingsPerUser", uint32(0))
	until("http://machine:4")
	cancel()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("Watch does not end")
	}
}
