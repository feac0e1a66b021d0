// Package assets holds the icons. The folder generate draws them; nothing in
// the folder icons is edited by hand.
package assets

import (
	"embed"
	"fmt"
	"slices"
)

//go:generate go run ./generate

//go:embed icons/*.png icons/*.ico icons/*.svg
var icons embed.FS

// States are the icons of the tray, by the names of package ui.
var States = []string{"valid", "expiring", "expired", "none", "off", "problem"}

// fallback is shown where a state is not known, because a tray without an
// icon cannot be found, and some crash.
const fallback = "problem"

var (
	stateSizes = []int{16, 20, 22, 24, 32, 48, 64, 128, 256}
	appSizes   = []int{16, 20, 24, 32, 48, 64, 128, 256, 512}
)

// Icon returns a PNG of the state, size pixels wide or the next larger that
// there is.
func Icon(state string, size int) []byte {
	return read("%s-%d.png", known(state), atLeast(size, stateSizes))
}

// ICO returns the state in all sizes that Windows asks for.
func ICO(state string) []byte { return read("%s.ico", known(state)) }

// Template returns a black PNG of the state for the menu bar of macOS, which
// colours it itself: 18 pixels wide at scale 1, 36 at 2.
func Template(state string, scale int) []byte {
	return read("%s-template-%d.png", known(state), min(max(scale, 1), 2))
}

// SVG returns the state as a drawing in its colours, or, if symbolic, in the
// colour of the text around it.
func SVG(state string, symbolic bool) []byte {
	if symbolic {
		return read("%s-symbolic.svg", known(state))
	}
	return read("%s.svg", known(state))
}

// App returns a PNG of the program's own icon, size pixels wide or the next
// larger that there is.
func App(size int) []byte { return read("app-%d.png", atLeast(size, appSizes)) }

// AppICO returns the program's own icon in all sizes that Windows asks for.
func AppICO() []byte { return read("app.ico") }

// AppSVG returns the program's own icon as a drawing, as [SVG] does.
func AppSVG(symbolic bool) []byte {
	if symbolic {
		return read("app-symbolic.svg")
	}
	return read("app.svg")
}

func known(state string) string {
	if slices.Contains(States, state) {
		return state
	}
	return fallback
}

// atLeast returns the first of sizes that is not smaller, or the largest.
func atLeast(size int, sizes []int) int {
	for _, s := range sizes {
		if s >= size {
			return s
		}
	}
	return sizes[len(sizes)-1]
}

func read(format string, args ...any) []byte {
	data, err := icons.ReadFile("icons/" + fmt.Sprintf(format, args...))
	if err != nil {
		panic("assets: " + err.Error()) // generate and this file do not agree
	}
	return data
}
