//go:build (linux || darwin) && !nogss

package gss

import (
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

// OpenApple lets the outside tests run the code of macOS on another library.
func OpenApple(c Config, path string) (ticket.Backend, error) {
	a, err := newApple(c, path)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func TestRealmAfter(t *testing.T) {
	for name, want := range map[string]string{
		"HTTP/proxy.corp.example@CORP.EXAMPLE": "CORP.EXAMPLE", "HTTP/proxy.corp.example": "", `a\@b@R`: "R", `a\@b`: "", "": "", "@R": "",
	} {
		if got := realmAfter(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestJoin(t *testing.T) {
	end := time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC)
	tools := func() []ticket.Cache {
		return []ticket.Cache{
			{Name: "API:1", Principal: "alice@A", Realm: "A", Expires: end},
			{Name: "API:2", Principal: "bob@B", Realm: "B", Expires: end, Default: true},
		}
	}
	for name, tt := range map[string]struct {
		tools []ticket.Cache
		creds []credential
		want  []ticket.Cache
	}{
		"they agree": {tools(), []credential{{principal: "alice@A", expires: end}}, tools()},
		"a wrong clock": {tools()[:1], []credential{{principal: "alice@A", expires: end.Add(10 * time.Minute)}},
			[]ticket.Cache{{Name: "API:1", Principal: "alice@A", Realm: "A", Expires: end.Add(10 * time.Minute)}}},
		"no tools": {nil, []credential{{principal: "alice@A", expires: end}, {principal: "bob@B", expires: end}, {principal: "gone@C"}},
			[]ticket.Cache{{Name: "API:alice@A", Principal: "alice@A", Realm: "A", Expires: end, Default: true},
				{Name: "API:bob@B", Principal: "bob@B", Realm: "B", Expires: end}}},
		"no credentials": {tools(), nil, tools()},
	} {
		got := join(tt.tools, tt.creds)
		if len(got) != len(tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
			continue
		}
		for i := range got {
			if g, w := got[i], tt.want[i]; g.Name != w.Name || g.Principal != w.Principal || g.Realm != w.Realm || g.Default != w.Default || !g.Expires.Equal(w.Expires) {
				t.Errorf("%s: got %+v, want %+v", name, g, w)
			}
		}
	}
}
