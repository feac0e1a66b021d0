package kinit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kerbpass/internal/ticket"
)

// maxCaches and maxTickets bound what a listing may hold.
const (
	maxCaches  = 1000
	maxTickets = 10000
)

// jsonCache is one cache as klist --json prints it. A cache that does not
// exist, or that klist cannot read, has no members but perhaps a version.
type jsonCache struct {
	Cache     string          `json:"cache"`
	Principal string          `json:"principal"`
	Tickets   json.RawMessage `json:"tickets"`
}

type jsonTicket struct {
	Issued    string `json:"Issued"`
	Expires   string `json:"Expires"`
	Principal string `json:"Principal"`
}

// parseJSON reads the three forms: one cache; an array of caches, which is
// Heimdal's -A; and {"tickets": [caches]}, which is Apple's.
func parseJSON(out []byte) ([]ticket.Cache, error) {
	out = bytes.TrimSpace(out)
	var all []jsonCache
	if bytes.HasPrefix(out, []byte("[")) {
		if err := json.Unmarshal(out, &all); err != nil {
			return nil, badListing(err)
		}
		return cachesOf(all)
	}
	var one jsonCache
	if err := json.Unmarshal(out, &one); err != nil {
		return nil, badListing(err)
	}
	if one.Cache == "" && one.Tickets != nil {
		if err := json.Unmarshal(one.Tickets, &all); err != nil {
			return nil, badListing(err)
		}
		return cachesOf(all)
	}
	return cachesOf([]jsonCache{one})
}

func badListing(err error) error {
	return fmt.Errorf("%w: klist prints no listing: %w", ticket.ErrCache, err)
}

func cachesOf(all []jsonCache) ([]ticket.Cache, error) {
	if len(all) > maxCaches {
		return nil, badListing(errors.New("too many caches"))
	}
	list := []ticket.Cache{}
	for _, j := range all {
		if j.Cache == "" {
			continue
		}
		var tickets []jsonTicket
		if j.Tickets != nil {
			if err := json.Unmarshal(j.Tickets, &tickets); err != nil {
				return nil, badListing(err)
			}
		}
		if len(tickets) > maxTickets {
			return nil, badListing(errors.New("too many tickets"))
		}
		c := ticket.Cache{Name: j.Cache, Principal: j.Principal, Realm: realmOf(j.Principal)}
		for _, k := range tickets {
			t, err := k.ticket()
			if err != nil {
				return nil, badListing(err)
			}
			file(&c, t)
		}
		list = append(list, c)
	}
	return list, nil
}

func (k jsonTicket) ticket() (ticket.Ticket, error) {
	start, err := parseTime(k.Issued)
	if err != nil {
		return ticket.Ticket{}, err
	}
	// Heimdal 7 does not say when an expired ticket ended.
	end := time.Time{}
	if !strings.Contains(k.Expires, "Expired") {
		if end, err = parseTime(k.Expires); err != nil {
			return ticket.Ticket{}, err
		}
	}
	return ticket.Ticket{Server: k.Principal, Start: start, Expires: end}, nil
}

// parseTime reads Apple's form and Heimdal's. Klist runs in UTC.
func parseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, layout := range []string{"20060102150405", "Jan _2 15:04:05 2006"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no time", s)
}

// file puts t where it belongs in c.
func file(c *ticket.Cache, t ticket.Ticket) {
	switch {
	case t.Server == "" || strings.HasSuffix(t.Server, "@X-CACHECONF:"): // the library's own notes
		return
	case !strings.HasPrefix(t.Server, "krbtgt/"):
		c.Services = append(c.Services, t)
		return
	}
	c.TGTs = append(c.TGTs, t)
	if t.Server == "krbtgt/"+c.Realm+"@"+c.Realm && t.Expires.After(c.Expires) {
		c.Expires = t.Expires
	}
}

// realmOf returns what follows the last unescaped "@".
func realmOf(principal string) string {
	for i := len(principal) - 1; i > 0; i-- {
		if principal[i] == '@' && principal[i-1] != '\\' {
			return principal[i+1:]
		}
	}
	return ""
}

// parseVerbose reads klist -A -v, made for people but the only form with
// flags, encryption types and the end of renewal.
func parseVerbose(out []byte) ([]ticket.Cache, error) {
	p := &verbose{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		label, value, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			continue
		}
		if err := p.line(strings.TrimSpace(label), strings.TrimSpace(value)); err != nil {
			return nil, badListing(err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, badListing(err)
	}
	p.endTicket()
	return p.caches, nil
}

// verbose is what has been read so far.
type verbose struct {
	caches  []ticket.Cache
	current ticket.Ticket
	tickets int
}

func (p *verbose) line(label, value string) (err error) {
	t := &p.current
	if label == "Credentials cache" {
		p.endTicket()
		p.caches = append(p.caches, ticket.Cache{Name: value})
		if len(p.caches) > maxCaches {
			return errors.New("too many caches")
		}
		return nil
	}
	if len(p.caches) == 0 {
		return nil // a warning
	}
	switch label {
	case "Principal":
		c := &p.caches[len(p.caches)-1]
		c.Principal, c.Realm = value, realmOf(value)
	case "Server":
		p.endTicket()
		if p.tickets++; p.tickets > maxTickets {
			return errors.New("too many tickets")
		}
		t.Server = value
	case "Ticket etype", "Session key": // the latter is there if it differs, and follows
		name, _, _ := strings.Cut(value, ",")
		t.EncType = encTypes[name]
	case "Auth time":
		t.Start, err = parseTime(value)
	case "Start time": // likewise; 1970 where the ticket has none
		start, bad := parseTime(value)
		if err = bad; start.Unix() > 0 {
			t.Start = start
		}
	case "End time":
		t.Expires, err = parseTime(strings.TrimSuffix(value, " (expired)"))
	case "Renew till":
		t.RenewUntil, err = parseTime(value)
	case "Ticket flags":
		for _, name := range strings.Split(value, ",") {
			t.Flags |= flags[strings.TrimSpace(name)]
		}
	}
	return err
}

func (p *verbose) endTicket() {
	if p.current.Server != "" {
		file(&p.caches[len(p.caches)-1], p.current)
	}
	p.current = ticket.Ticket{}
}

// flags and encTypes turn the names around that package ticket gives, and
// Heimdal too.
var flags, encTypes = func() (map[string]ticket.Flags, map[string]ticket.EncType) {
	f, e := map[string]ticket.Flags{}, map[string]ticket.EncType{"arcfour-hmac-md5": 23}
	for bit := range 32 {
		one := ticket.Flags(1) << bit
		for _, name := range one.Names() {
			f[name] = one
		}
	}
	for n := range ticket.EncType(64) {
		if name := n.String(); name != "" {
			e[name] = n
		}
	}
	return f, e
}()

// combine takes caches, adds the standard one if it is outside, marks it, and
// fills in the details where they are about the same cache.
func combine(standard, caches, details []ticket.Cache) []ticket.Cache {
	for _, s := range standard {
		if named(caches, s.Name) < 0 {
			caches = append(caches, s)
		}
	}
	for i, c := range caches {
		// What was renewed between two runs of klist is left as it is.
		if d := named(details, c.Name); d >= 0 && c.Principal == details[d].Principal && sameTickets(c, details[d]) {
			caches[i] = details[d]
		}
		caches[i].Default = named(standard, c.Name) >= 0
	}
	return caches
}

func named(list []ticket.Cache, name string) int {
	return slices.IndexFunc(list, func(c ticket.Cache) bool { return c.Name == name })
}

func sameTickets(a, b ticket.Cache) bool {
	same := func(a, b ticket.Ticket) bool {
		return a.Server == b.Server && a.Start.Equal(b.Start) && (a.Expires.IsZero() || a.Expires.Equal(b.Expires))
	}
	return slices.EqualFunc(a.TGTs, b.TGTs, same) && slices.EqualFunc(a.Services, b.Services, same)
}
