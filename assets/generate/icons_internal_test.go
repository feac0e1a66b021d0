package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const folder = "../icons"

// drawn is all files, drawn once.
var drawn = sync.OnceValue(files)

// TestIconsAreTheDrawn draws everything again. Compression differs between
// versions of Go: after a change of that, run go generate.
func TestIconsAreTheDrawn(t *testing.T) {
	total := 0
	for name, want := range drawn() {
		got, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".svg") {
			got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n"))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what is drawn: run go generate ./assets", name)
		}
		total += len(want)
	}
	if total > 400<<10 {
		t.Errorf("%d bytes of icons, want at most 400 KiB: they are in every binary", total)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if drawn()[e.Name()] == nil {
			t.Errorf("nobody draws %s", e.Name())
		}
	}
}

// silhouette is which pixels of an icon are black on a panel of one colour.
func (s scene) silhouette(size int) (pixels []bool) {
	img := s.paint(size, 0, s.template())
	for i := 3; i < len(img.Pix); i += 4 {
		pixels = append(pixels, img.Pix[i] >= 0x80)
	}
	return pixels
}

// TestSilhouettesDiffer: in black and white and at the smallest size, no state
// can be taken for another.
func TestSilhouettesDiffer(t *testing.T) {
	const least = 18 // of 256 pixels
	for a, s := range states {
		for b, other := range states {
			if a >= b {
				continue
			}
			differ := 0
			pixels := other.silhouette(16)
			for i, set := range s.silhouette(16) {
				if set != pixels[i] {
					differ++
				}
			}
			if differ < least {
				t.Errorf("%s and %s differ in %d pixels, want %d", a, b, differ, least)
			}
		}
	}
}

// TestContrast: what is seen of an icon stands out from light and dark panels,
// and the marks from it.
func TestContrast(t *testing.T) {
	panels := []color.NRGBA{white, {0x22, 0x22, 0x22, 0xff}}
	for state, s := range states {
		img := s.paint(16, 0, s.coloured())
		for _, panel := range panels {
			distinct := 0
			for i := 0; i < len(img.Pix); i += 4 {
				if c := (color.NRGBA{img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3]}); c.A == 0xff && contrast(c, panel) >= 3 {
					distinct++
				}
			}
			if least := 48; distinct < least {
				t.Errorf("%s on %v: %d pixels stand out, want %d", state, panel, distinct, least)
			}
			if got := contrast(s.colour, panel); got < 3 {
				t.Errorf("%s on %v: contrast %.2f, want 3", state, panel, got)
			}
		}
	}
}

// contrast is the ratio that WCAG 2 defines.
func contrast(a, b color.NRGBA) float64 {
	high, low := luminance(a), luminance(b)
	return (max(high, low) + 0.05) / (min(high, low) + 0.05)
}

func luminance(c color.NRGBA) float64 {
	linear := func(v uint8) float64 {
		if f := float64(v) / 255; f > 0.04045 {
			return math.Pow((f+0.055)/1.055, 2.4)
		}
		return float64(v) / 255 / 12.92
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

// TestDistances: the painter skips pixels by the distance, so it must be one.
func TestDistances(t *testing.T) {
	for state, s := range states {
		for _, l := range s.layers {
			for _, sh := range l.shapes {
				checkDistance(t, state, sh)
			}
		}
	}
}

func checkDistance(t *testing.T, state string, sh shape) {
	t.Helper()
	const step = 0.25
	for x := -1.0; x <= 17; x += step {
		for y := -1.0; y <= 17; y += step {
			here := sh.distance(point{x, y})
			for _, next := range []point{{x + step, y}, {x, y + step}} {
				if change := math.Abs(sh.distance(next) - here); change > step+onEdge {
					t.Fatalf("%s, %T: from %v,%v to %v the distance changes by %v", state, sh, x, y, next, change)
				}
			}
		}
	}
}

func TestDrawingsAreXML(t *testing.T) {
	for name, data := range drawn() {
		if !strings.HasSuffix(name, ".svg") {
			continue
		}
		if symbolic := strings.Contains(name, "symbolic"); symbolic != bytes.Contains(data, []byte("currentColor")) {
			t.Errorf("%s: the colour of the text around it: got %v, want %v", name, !symbolic, symbolic)
		}
		d := xml.NewDecoder(bytes.NewReader(data))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
