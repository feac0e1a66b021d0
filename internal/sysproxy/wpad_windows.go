//go:build windows

package sysproxy

import (
	"strings"

	"golang.org/x/sys/windows/registry"
)

// searchDomains reads the domain of the computer and the list for searching,
// which policy sets, else DHCP's.
func searchDomains() (all []string) {
	k, err := openKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\Tcpip\Parameters`, registry.QUERY_VALUE)
	if err != nil {
		return nil
	}
	defer k.Close()
	for _, name := range []string{"Domain", "SearchList", "DhcpDomain"} {
		if v, _, err := k.GetStringValue(name); err == nil {
			all = append(all, strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })...)
		}
	}
	return all
}
