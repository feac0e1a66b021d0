// Command generate draws the icons and writes them into the folder "icons";
// run it by go generate, in package assets. Shapes with an exact distance make
// a scene for each state, and all formats come from the same scenes. Every run
// gives the same bytes.
package main

import (
	"os"
	"path/filepath"
)

func main() {
	for name, data := range files() {
		if err := os.WriteFile(filepath.Join("icons", name), data, 0o644); err != nil {
			panic("generate: " + err.Error()) // nobody but us runs this
		}
	}
}
