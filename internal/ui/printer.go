package ui

import (
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// A Printer words things in one language and time zone. It is safe for
// concurrent use.
type Printer struct {
	messages *message.Printer
	language string
	zone     *time.Location
}

// offered are the languages of the catalogue; the first is for everybody else.
var offered = []language.Tag{language.English, language.German, language.French}

var matcher = sync.OnceValue(func() language.Matcher { return language.NewMatcher(offered) })

// twelveHours are the regions where those who get English read 6:10 PM and the
// month before the day. English without a region gets 18:10.
var twelveHours = []string{"US", "PR", "PH"}

// NewPrinter returns a Printer for lang, a tag such as "de" or "fr-CA". Where
// lang is "", the first of locale that is not "" decides: give it the values
// of LC_ALL, LC_MESSAGES and LANG, or the system's own tag. What is unknown or
// not offered is English. A nil zone is the computer's.
func NewPrinter(lang string, zone *time.Location, locale ...string) *Printer {
	if zone == nil {
		zone = time.Local
	}
	tag := choose(append([]string{lang}, locale...))
	base, _ := tag.Base()
	return &Printer{messages: message.NewPrinter(tag, message.Catalog(messages())), language: base.String(), zone: zone}
}

// Language is the language as a page declares it: en, de or fr.
func (p *Printer) Language() string { return p.language }

func choose(wanted []string) language.Tag {
	for _, w := range wanted {
		if w == "" {
			continue
		}
		tag, err := language.Parse(tagOf(w))
		if err != nil {
			break // C, POSIX or nonsense
		}
		_, i, _ := matcher().Match(tag)
		region, sure := tag.Region()
		if offered[i] == language.English && sure == language.Exact && slices.Contains(twelveHours, region.String()) {
			return language.AmericanEnglish
		}
		return offered[i]
	}
	return offered[0]
}

// tagOf turns de_DE.UTF-8@euro into de_DE, which the parser of tags takes.
func tagOf(locale string) string {
	if i := strings.IndexAny(locale, ".@"); i >= 0 {
		return locale[:i]
	}
	return locale
}

// text words what the catalogue has under key.
func (p *Printer) text(key string, args ...any) string {
	return p.messages.Sprintf(message.Key(key, key), args...)
}
