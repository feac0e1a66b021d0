package sysproxy

import (
	"encoding/binary"
	"strings"
)

// internetSettings are what Windows keeps for a user, for the machine, or for
// WinHTTP; the strings as Windows words them.
type internetSettings struct {
	autoDetect         bool
	pac, proxy, bypass string
}

func (i internetSettings) empty() bool {
	return !i.autoDetect && strings.TrimSpace(i.pac) == "" && strings.TrimSpace(i.proxy) == ""
}

func windowsSetting(f *finding, i internetSettings) []Setting {
	https, http, socks := parseProxyServer(i.proxy)
	f.serve(https, http)
	f.socks = f.socks || socks
	if strings.TrimSpace(i.pac) != "" {
		f.script(i.pac)
	}
	f.AutoDetect = i.autoDetect
	f.NoProxy = fields(i.bypass, "; \t\r\n")
	return f.done()
}

// parseProxyServer reads "host:port" or "http=host:port;https=host:port;…",
// separated by semicolons or blanks. What has no protocol before it serves
// every one.
func parseProxyServer(s string) (https, http []string, socks bool) {
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune("; \t\r\n", r) }) {
		kind, address, ok := strings.Cut(part, "=")
		if !ok || strings.Contains(kind, "://") {
			https, http = append(https, part), append(http, part)
			continue
		}
		if address == "" {
			continue
		}
		switch strings.ToLower(kind) {
		case "https":
			https = append(https, address)
		case "http":
			http = append(http, address)
		case "socks":
			socks = true
		}
	}
	return https, http, socks
}

// Flags of DefaultConnectionSettings.
const (
	blobProxy      = 2
	blobPAC        = 4
	blobAutoDetect = 8
)

// parseBlob reads the value DefaultConnectionSettings: version, counter, flags,
// then the proxies, the exceptions and the script, each after its length.
func parseBlob(b []byte) (i internetSettings, ok bool) {
	if len(b) < 12 || b[0] != 0x46 && b[0] != 0x3c {
		return i, false
	}
	flags := binary.LittleEndian.Uint32(b[8:])
	b = b[12:]
	var texts [3]string
	for n := range texts {
		if len(b) < 4 {
			return i, false
		}
		size := binary.LittleEndian.Uint32(b)
		if b = b[4:]; uint64(size) > uint64(len(b)) {
			return i, false
		}
		texts[n], b = string(b[:size]), b[size:]
	}
	i.autoDetect = flags&blobAutoDetect != 0
	if flags&blobProxy != 0 {
		i.proxy, i.bypass = texts[0], texts[1]
	}
	if flags&blobPAC != 0 {
		i.pac = texts[2]
	}
	return i, true
}
