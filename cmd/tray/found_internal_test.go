package main

import (
	"testing"
	"time"

	"kerbpass/internal/settings"
	"kerbpass/internal/sysproxy"
)

// The settings read the environment themselves; the system does not speak for
// it, and a stronger word for the source is left alone.
func TestSystemDoesNotSpeakForTheEnvironment(t *testing.T) {
	s := newSystemProxies(noEnv)
	if got := s.upstreams(); len(got) != 0 || s.isFresh() || s.isLate() {
		t.Errorf("before it was read: %q", got)
	}
	env := sysproxy.Setting{Source: sysproxy.SourceEnvironment, Name: "HTTPS_PROXY", Upstreams: []string{"http://env:1"}}
	gnome := sysproxy.Setting{Source: sysproxy.SourceGNOME, Upstreams: []string{"http://gnome:2"}}
	s.all, s.read = []sysproxy.Setting{env}, time.Now()
	if got := s.upstreams(); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	if got := s.source(string(settings.SourceSystem)); got != "system settings" {
		t.Errorf("got %q", got)
	}
	s.all = []sysproxy.Setting{env, gnome}
	if got := s.upstreams(); len(got) != 1 || got[0] != "http://gnome:2" || len(s.settings()) != 2 || !s.isFresh() {
		t.Errorf("got %q of %+v", got, s.settings())
	}
	for word, want := range map[string]string{"system": "system settings (GNOME)", "settings": "settings", "environment": "environment", "": ""} {
		if got := s.source(word); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	var none *systemProxies
	if none.look(); none.source("system") != "system" {
		t.Error("nobody was asked, and yet there is a word")
	}
}
