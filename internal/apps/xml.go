package apps

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// mavenFile is Maven's settings.xml. Its entries are the elements of the
// second level below the root, each with all that is in it, and what else
// stands below the root.
type mavenFile struct{}

const proxyElement = "settings/proxies/proxy"

// layout is where proxies can be put.
type layout struct {
	empty            bool // there is no root
	proxies, rootEnd int  // where the end tags begin; proxies is -1 without one
	selfClosed       bool // the root or proxies is <x/>
}

func (mavenFile) scan(text string) (all []entry, l layout, err error) {
	l = layout{empty: true, proxies: -1, rootEnd: -1}
	dec := xml.NewDecoder(strings.NewReader(text))
	var path []string
	var deep strings.Builder // of the element of the second level that is open
	for {
		began := dec.InputOffset()
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, l, err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if len(path) == 0 && tok.Name.Local != "settings" {
				return nil, l, fmt.Errorf("it begins with <%s>, not with <settings>", tok.Name.Local)
			}
			l.empty = false
			if path = append(path, tok.Name.Local); len(path) >= 3 {
				deep.WriteString("<" + tok.Name.Local)
				if len(tok.Attr) > 0 {
					fmt.Fprint(&deep, " ", tok.Attr)
				}
				deep.WriteString(">")
			} else {
				all = append(all, entry{strings.Join(path, "/") + "@", fmt.Sprint(tok.Attr)})
			}
		case xml.EndElement:
			closed := began == dec.InputOffset()
			switch len(path) {
			case 1:
				l.rootEnd, l.selfClosed = int(began), l.selfClosed || closed
			case 2:
				if path[1] == "proxies" {
					if l.proxies >= 0 {
						return nil, l, errors.New("<proxies> stands there twice")
					}
					l.proxies, l.selfClosed = int(began), l.selfClosed || closed
				}
			case 3:
				deep.WriteString("</" + tok.Name.Local + ">")
				all = append(all, entry{strings.Join(path, "/"), deep.String()})
				deep.Reset()
			default:
				deep.WriteString("</" + tok.Name.Local + ">")
			}
			path = path[:len(path)-1]
		case xml.CharData:
			if s := strings.TrimSpace(string(tok)); len(path) >= 3 {
				deep.WriteString(s)
			} else if s != "" && s != bom {
				all = append(all, entry{strings.Join(path, "/"), s})
			}
		}
	}
	return all, l, nil
}

func (f mavenFile) parse(text string) ([]entry, error) {
	all, _, err := f.scan(text)
	return all, err
}

// insert takes one proxy element, written on one line, for each setting.
func (f mavenFile) insert(text string, set []setting) (edits []edit, added []entry, err error) {
	_, l, err := f.scan(text)
	if err != nil {
		return nil, nil, err
	}
	end := eol(text)
	var b strings.Builder
	for _, s := range set {
		b.WriteString("    " + s.value + end)
		added = append(added, entry{proxyElement, s.value})
	}
	list := "  <proxies>" + end + b.String() + "  </proxies>" + end
	attrs := entry{"settings/proxies@", "[]"}
	switch {
	case l.selfClosed:
		return nil, nil, errors.New("<settings> or <proxies> is empty")
	case l.empty && strings.TrimSpace(text) != "":
		return nil, nil, errors.New("it has no <settings>")
	case l.empty:
		return []edit{{len(text), "<settings>" + end + list + "</settings>" + end}}, append(added, attrs, entry{"settings@", "[]"}), nil
	case l.proxies >= 0:
		return []edit{beforeTag(text, l.proxies, b.String(), end)}, added, nil
	}
	return []edit{beforeTag(text, l.rootEnd, list, end)}, append(added, attrs), nil
}

// beforeTag puts whole lines before the line that an end tag stands on, if it
// stands alone there.
func beforeTag(text string, at int, lines, end string) edit {
	if in, own := indentOf(text, at); own {
		return edit{at - len(in), lines}
	}
	return edit{at, end + lines}
}
