// Package settings knows what the user, the administrator and the environment
// want: it joins managed policy, command-line flags, environment, settings
// file, operating system and built-in defaults into one immutable [Snapshot],
// in which every value names its source and every mistake its place.
//
// It promises that a file that does not parse is never overwritten and never
// takes the helper down (the last good values stay), and that an edit changes
// the value concerned and not one byte of comment, order or unknown key
// besides. It refuses to guess: a value that cannot be used is reported, and
// what the file said before counts, or else the default, not the next weaker
// source (an upstream is the one exception, see [Open]).
//
// What makes a bypass entry valid is not known here; the caller passes such
// rules in [Config.Check].
package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Errors of [Store.Edit] and [Store.Reload] that callers test for with
// [errors.Is]. Their own text does not show: the wrapping error says in one
// clause what is wrong with which file, key or source.
var (
	// ErrBroken: the file does not parse, so nothing is written to it.
	ErrBroken = errors.New("the settings file cannot be read as TOML")
	// ErrNewer: the file belongs to a newer version of the program.
	ErrNewer = errors.New("the settings file belongs to a newer version")
	// ErrLocked: a source stronger than the file sets the key.
	ErrLocked = errors.New("the setting is locked")
	// ErrInvalid: the key is unknown or its value cannot be used.
	ErrInvalid = errors.New("invalid setting")
	// ErrBusy: another process kept the file locked for too long, or it changed
	// each time it was about to be written.
	ErrBusy = errors.New("the settings file is being edited elsewhere")
	// ErrByHand: the file is written in a way in which the edit could not be
	// made without touching something else. It is unchanged.
	ErrByHand = errors.New("this edit has to be made by hand")
)

// Values holds every setting, valid and complete. The slices are shared: read
// them, do not change them.
type Values struct {
	Listen       []string // loopback "address:port"
	Upstream     []string // "http://host:port", in order of preference; empty: none known
	UpstreamAuth []string // "http://proxy.corp.example:8080 basic alice"
	PAC          string   // URL, file or "auto"; "" is none
	NoProxy      []string // suffix rules

	BypassExact []string // exact host names

	Tunnel         []string // "127.0.0.1:2222=git.corp.example:22"
	SocksListen    []string // loopback "address:port"
	GatewayEnabled bool
	GatewayListen  []string // "address:port", of any network
	GatewayAllow   []string // networks, "172.17.0.0/16"; empty: nobody
	GatewayClients []string // "name:SHA-256 of the secret", hexadecimal

	KerberosEnabled      bool
	KerberosUpstreams    []string // "host" or "host:port", lower case, exact
	KerberosSPN          string   // "" is HTTP/<upstream host>
	KerberosCanonicalize string   // off, cname
	KerberosPreemptive   bool
	KerberosCache        string // "" is the system's default
	KerberosRemindBefore time.Duration
	KerberosRenew        string // auto, ask, off
	KerberosRemember     string // principal whose password the OS keyring holds; "" is nobody's

	SameUserOnly bool
	AllowUsers   []string
	ConnectPorts []string // "443" or "8000-8999"; empty: every port

	NotifyValid    bool
	NotifyExpiring bool
	NotifyExpired  bool
	Language       string // "" is the system's
}

// Source is a layer of settings.
type Source string

// The sources, strongest first. SourceSystem speaks for the upstream only. A
// preset is of SourcePolicy too, stronger than the system and weaker than the
// file: [Origin.Locked] tells the two apart.
const (
	SourcePolicy  Source = "policy"
	SourceFlag    Source = "flag"
	SourceEnv     Source = "environment"
	SourceFile    Source = "file"
	SourceSystem  Source = "system"
	SourceDefault Source = "default"
)

// Origin says where a value comes from. Where the source that should have
// decided held something unusable, Name still names the culprit, and Source is
// [SourceDefault], or [SourceFile] for a value the file had before, or
// [SourcePolicy] if the organisation locked it.
type Origin struct {
	Source Source
	Name   string // "HTTPS_PROXY", "--upstream", "/path/config.toml:3"
	Locked bool   // decided by a source stronger than the file: [Store.Edit] refuses
}

// Problem is one thing the user should put right.
type Problem struct {
	File    string // "" when it is not about the file
	Line    int    // from 1; 0 without a file, or when it cannot be read at all
	Column  int    // in characters, from 1; 0 when Line is
	Key     string // "bypass.exact"; "" when it is about the file as a whole
	Source  Source
	Text    string // what is wrong, without a full stop
	Hint    string // what to do and what counts until then, a sentence
	Warning bool   // nothing was ignored that has a meaning here
}

// String renders the problem on one line: place, text, hint.
func (p Problem) String() string {
	if p.Hint == "" {
		return p.clause()
	}
	return p.clause() + ". " + p.Hint
}

// clause is the place and the text.
func (p Problem) clause() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Line == 0:
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Snapshot is one consistent picture of all settings. It never changes and is
// shared between goroutines: treat its maps and slices as read-only.
type Snapshot struct {
	Values
	Origins      map[string]Origin // by key, "bypass.exact"; every key is in it
	Problems     []Problem
	FileReadOnly bool // the file has a newer version: it is read as far as understood, never written

	// Withheld: a rule of the organisation cannot be understood and was never
	// known, so KerberosEnabled is false and locked; see [Managed].
	Withheld bool
}

// Described is one setting as status reports show it.
type Described struct {
	Value  any    `json:"value"` // string, bool or []string; durations as "30m"
	Source string `json:"source"`
	Name   string `json:"name,omitempty"`
	Locked bool   `json:"locked"`
}

// Describe returns every setting by key, ready for JSON.
func (s *Snapshot) Describe() map[string]Described {
	all := make(map[string]Described, len(table))
	for i := range table {
		k := &table[i]
		v := k.get(&s.Values)
		if d, ok := v.(time.Duration); ok {
			v = formatDuration(d)
		}
		o := s.Origins[k.Key]
		all[k.Key] = Described{Value: v, Source: string(o.Source), Name: o.Name, Locked: o.Locked}
	}
	return all
}

// Config says where a [Store] takes its layers from. Only Path is required.
type Config struct {
	Path string // the settings file; it and its folder need not exist

	// Policy returns what the organisation has laid down; nil: nothing. It is
	// asked on every reload.
	Policy func() Managed

	// Flags holds typed values by key, "kerberos.enabled": bool; a key that is
	// absent was not given. Lists are []string, or one comma-separated string.
	Flags map[string]any

	// LookupEnv is asked for the variables in [KeyInfo.Env]; nil: none is set.
	// Pass [os.LookupEnv]. (Windows ignores the case of variable names, so a
	// lower-case jaato_no_proxy counts there.)
	LookupEnv func(name string) (string, bool)

	// System returns the operating system's upstream proxies; may be nil. It
	// is asked on every reload on which no stronger source names one.
	System func() []string

	// Check holds further validators by key. They are given the typed value: a
	// list as []string, where they are also asked about single-entry lists to
	// find out which entry is at fault.
	Check map[string]func(value any) error

	// SelfUpstream reports whether an upstream URL is one of our own listeners;
	// nil: never.
	SelfUpstream func(url string, listen []string) bool

	Log *slog.Logger // nil discards
}

// DefaultPath returns the user's settings file, kerbpass/config.toml under
// [os.UserConfigDir].
func DefaultPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for settings: %w", err)
	}
	return filepath.Join(dir, "kerbpass", "config.toml"), nil
}

// same reports whether nobody could tell the two snapshots apart.
func (s *Snapshot) same(o *Snapshot) bool {
	if s.FileReadOnly != o.FileReadOnly || s.Withheld != o.Withheld || !slices.Equal(s.Problems, o.Problems) || !maps.Equal(s.Origins, o.Origins) {
		return false
	}
	for i := range table {
		if !equalValue(table[i].get(&s.Values), table[i].get(&o.Values)) {
			return false
		}
	}
	return true
}
