// Package sysproxy reads what the operating system and the desktop say about
// proxies: the environment, Windows' Internet settings, the macOS dynamic
// store, GNOME's and KDE's settings, NetworkManager. It reads and watches; it
// changes nothing, and it does not fetch or run an automatic configuration
// script (PAC), it only tells where one is.
package sysproxy

import "net/netip"

// Source is a part of the system that has an opinion.
type Source string

// The sources.
const (
	SourceEnvironment    Source = "environment"
	SourceWindows        Source = "windows"
	SourceMacOS          Source = "macos"
	SourceGNOME          Source = "gnome"
	SourceKDE            Source = "kde"
	SourceNetworkManager Source = "networkmanager"
)

// A Setting is what one source says.
type Setting struct {
	Source Source
	// Name is where a person finds it: a variable, a key, a file.
	Name string
	// Upstreams are the HTTP proxies for everything, in order of preference, as
	// scheme://host:port and without credentials.
	Upstreams []string
	// PAC is the address of an automatic configuration script, "" none.
	PAC string
	// AutoDetect: the system searches for such a script itself (WPAD).
	AutoDetect bool
	// NoProxy are the exceptions, as the source words them.
	NoProxy []string
	// Off: the source says that there is no proxy, which ends the search.
	Off bool
	// Problem says what of this setting cannot be used, "" nothing: a SOCKS
	// proxy only, an address that is none, credentials that were left out.
	Problem string
}

// Config says what Read and Watch look at.
type Config struct {
	// Own are this program's listeners. A proxy that is one of them is left
	// out: it is where we come from, not where we go.
	Own []netip.AddrPort
	// LookupEnv reads an environment variable; nil: os.LookupEnv.
	LookupEnv func(string) (string, bool)
}
