package web

import (
	"embed"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed page texts
var files embed.FS

const jsonType = "application/json"

// types are set here and not guessed from the system, whose table may say that
// a script is plain text.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// servePage answers with one of the page's files.
func servePage(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	b, err := files.ReadFile("page/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", types[path.Ext(name)])
	w.Write(b)
}

// A catalogue is the page's texts in one language.
type catalogue struct {
	file  []byte // as the page loads it
	texts map[string]string
}

// english is for everybody whose language is missing.
const english = "en"

// catalogues are read when a page needs one, not at every start.
var catalogues = sync.OnceValue(loadCatalogues)

func loadCatalogues() map[string]catalogue {
	all := map[string]catalogue{}
	entries, err := files.ReadDir("texts")
	for _, e := range entries {
		var c catalogue
		if c.file, err = files.ReadFile("texts/" + e.Name()); err == nil {
			err = json.Unmarshal(c.file, &c.texts)
		}
		if err != nil {
			break
		}
		all[strings.TrimSuffix(e.Name(), ".json")] = c
	}
	if err != nil {
		panic("web: embedded texts: " + err.Error())
	}
	return all
}

// chooseLanguage returns the first of the wanted languages that there is a
// catalogue for. They are written as "de-CH" or "de_CH.UTF-8", with or without
// the weight of Accept-Language.
func chooseLanguage(wanted ...string) string {
	for _, w := range wanted {
		primary := strings.ToLower(strings.TrimSpace(w))
		if i := strings.IndexAny(primary, "-_.;@"); i >= 0 {
			primary = primary[:i]
		}
		if _, ok := catalogues()[primary]; ok {
			return primary
		}
	}
	return english
}
