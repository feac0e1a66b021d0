package sysproxy

import "strings"

// nmFacts are what NetworkManager says about one connection.
type nmFacts struct {
	name           string // of the connection
	auto           bool   // its proxy method
	browserOnly    bool
	url, script    string // of the connection's own settings
	offered        string // DHCP option 252
	denied, absent bool   // the settings may not be read; the connection is gone
}

// nmSetting: NetworkManager knows scripts only. One that the network offers
// counts where the connection asks for that.
func nmSetting(c Config, n nmFacts) []Setting {
	f := c.finding(SourceNetworkManager, "connection "+n.name)
	offered := strings.Trim(n.offered, "\x00 \t\r\n")
	switch {
	case n.absent:
	case n.denied:
		f.problem("its settings may not be read")
	case n.auto && n.url != "":
		f.script(n.url)
	case n.auto && n.script != "":
		f.problem("the configuration script stands in the connection itself, which cannot be used")
	case n.auto && offered != "":
		f.script(offered)
	case n.auto:
		f.AutoDetect = true
	case offered != "":
		if u, _, err := pacURL(offered); err == nil {
			f.problem("the network offers the configuration script %s, which this connection does not use", u)
		}
	}
	if f.PAC != "" && n.browserOnly {
		f.problem("the script is for browsers only")
	}
	return f.done()
}
