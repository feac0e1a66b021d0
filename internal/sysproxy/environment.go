package sysproxy

import "strings"

// environment says what the settings of this program make of the variables:
// the first that is not empty counts, and is refused with credentials in it.
func environment(c Config) []Setting {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		value := strings.TrimSpace(c.env(name))
		if value == "" {
			continue
		}
		f := c.finding(SourceEnvironment, name)
		if strings.Contains(value, "@") {
			f.problem("%s carries a user name or password, so it is not used: remove everything up to the @", name)
			return f.done()
		}
		f.proxy(value)
		for _, name := range []string{"NO_PROXY", "no_proxy"} {
			if len(f.NoProxy) == 0 {
				f.NoProxy = fields(c.env(name), ", ")
			}
		}
		return f.done()
	}
	for _, name := range []string{"ALL_PROXY", "all_proxy"} {
		if c.env(name) != "" {
			f := c.finding(SourceEnvironment, name)
			f.problem("%s is not used: set HTTPS_PROXY", name)
			return f.done()
		}
	}
	return nil
}
