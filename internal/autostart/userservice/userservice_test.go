package userservice_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"kerbpass/internal/autostart/userservice"
)

func TestNewRefuses(t *testing.T) {
	path := "/opt/kerbpass"
	if runtime.GOOS == "windows" {
		path = `C:\kerbpass.exe`
	}
	for name, cfg := range map[string]userservice.Config{
		"no name":        {Command: []string{path}},
		"path as name":   {Name: "../x", Command: []string{path}},
		"no command":     {Name: "x"},
		"relative":       {Name: "x", Command: []string{"kerbpass"}},
		"line in an arg": {Name: "x", Command: []string{path, "a\nUser=root"}},
		"line in words":  {Name: "x", Description: "a\nUser=root", Command: []string{path}},
		"template":       {Name: "x", Command: []string{path, "{{Name}}"}},
	} {
		if _, err := userservice.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, err := userservice.New(userservice.Config{Name: "x", Command: []string{path, "run"}})
	switch {
	case runtime.GOOS != "windows" && err != nil:
		t.Error(err)
	case runtime.GOOS == "windows" && (!errors.Is(err, errors.ErrUnsupported) || !strings.HasSuffix(err.Error(), "use: kerbpass autostart on")):
		t.Errorf("got %v", err)
	}
}
