package ui

import (
	"sync"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message/catalog"
)

// A wording is all that is said in one language, by key. A text in one form is
// used as it is; of two, the first is for when the first argument is one, as
// the language counts, and the second for all else.
type wording map[string][]string

// wordings are the languages of the catalogue. Variants hold only what differs
// from their language.
var wordings = map[language.Tag]wording{
	language.English:         english,
	language.AmericanEnglish: american,
	language.German:          german,
	language.French:          french,
}

// messages is made when something is worded for the first time, which a helper
// without a desktop never does.
var messages = sync.OnceValue(func() catalog.Catalog { return compile(wordings) })

// compile panics on a text that is not well formed, which is a bug.
func compile(wordings map[language.Tag]wording) catalog.Catalog {
	b := catalog.NewBuilder(catalog.Fallback(language.English))
	for tag, w := range wordings {
		for key, forms := range w {
			if err := b.Set(tag, key, messageOf(forms)); err != nil {
				panic("ui: " + tag.String() + ": " + key + ": " + err.Error())
			}
		}
	}
	return b
}

func messageOf(forms []string) catalog.Message {
	if len(forms) == 1 {
		return catalog.String(forms[0])
	}
	return plural.Selectf(1, "%d", plural.One, forms[0], plural.Other, forms[1])
}
