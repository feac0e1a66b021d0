package ui

import (
	"strings"
	"time"
)

// until words a moment to come as a limit: "until 18:10", "until tomorrow
// 08:10", "until Wednesday 08:10", "until 2 Dec 08:10".
func (p *Printer) until(t, now time.Time) string {
	t, now = t.In(p.zone), now.In(p.zone)
	clock := p.clock(t)
	switch days := daysBetween(now, t); {
	case days == 0:
		return p.text("until.today", clock)
	case days == 1:
		return p.text("until.tomorrow", clock)
	case days > 1 && days < 7:
		return p.text("until.weekday", p.weekday(t), clock)
	default:
		return p.text("until.date", p.date(t, now), clock)
	}
}

// at words a moment: "at 18:10", "yesterday at 08:10", "on 2 Dec at 08:10".
func (p *Printer) at(t, now time.Time) string {
	t, now = t.In(p.zone), now.In(p.zone)
	clock := p.clock(t)
	switch days := daysBetween(now, t); {
	case days == 0:
		return p.text("at.today", clock)
	case days == 1:
		return p.text("at.tomorrow", clock)
	case days == -1:
		return p.text("at.yesterday", clock)
	case days > 1 && days < 7:
		return p.text("at.weekday", p.weekday(t), clock)
	default:
		return p.text("at.date", p.date(t, now), clock)
	}
}

// left words how long it is until t, in its two largest units and never more
// than there is: "3 h 20 min left", "less than a minute left".
func (p *Printer) left(t, now time.Time) string {
	minutes := int(t.Sub(now) / time.Minute)
	days, hours, minutes := minutes/(24*60), minutes/60%24, minutes%60
	switch {
	case days > 0 && hours > 0:
		return p.text("left", p.text("duration.two", p.text("duration.days", days), p.text("duration.hours", hours)))
	case days > 0:
		return p.text("left", p.text("duration.days", days))
	case hours > 0 && minutes > 0:
		return p.text("left", p.text("duration.two", p.text("duration.hours", hours), p.text("duration.minutes", minutes)))
	case hours > 0:
		return p.text("left", p.text("duration.hours", hours))
	case minutes > 0:
		return p.text("left", p.text("duration.minutes", minutes))
	default:
		return p.text("left.moment")
	}
}

func (p *Printer) clock(t time.Time) string { return t.In(p.zone).Format(p.text("clock.layout")) }

func (p *Printer) weekday(t time.Time) string {
	return strings.Fields(p.text("weekdays"))[t.Weekday()]
}

func (p *Printer) date(t, now time.Time) string {
	month := strings.Fields(p.text("months"))[t.Month()-1]
	if t.Year() == now.Year() {
		return p.text("date", t.Day(), month)
	}
	return p.text("date.year", t.Day(), month, t.Format("2006")) // a number would be grouped: 2,027
}

// daysBetween counts midnights, not hours: days are 23 or 25 hours long twice
// a year.
func daysBetween(from, to time.Time) int {
	return int(noonUTC(to).Sub(noonUTC(from)) / (24 * time.Hour))
}

func noonUTC(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 12, 0, 0, 0, time.UTC)
}
