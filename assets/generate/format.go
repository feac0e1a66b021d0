package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
)

// Sizes of the images of a state and of the program's own icon. An ICO holds
// those of them that Windows asks for at its usual scales; macOS templates are
// 18 points high.
var (
	stateSizes = []int{16, 20, 22, 24, 32, 48, 64, 128, 256}
	appSizes   = []int{16, 20, 24, 32, 48, 64, 128, 256, 512}
	icoSizes   = []int{16, 20, 24, 32, 48, 256}
)

const templatePoints = 18

// files returns every file of the icons by its name.
func files() map[string][]byte {
	all := map[string][]byte{}
	for state, s := range states {
		s.addTo(all, state, stateSizes)
		for scale := 1; scale <= 2; scale++ {
			img := s.paint(templatePoints*scale, 1, s.template()) // one point of margin: 18 around 16
			all[fmt.Sprintf("%s-template-%d.png", state, scale)] = encodePNG(img)
		}
	}
	app.addTo(all, "app", appSizes)
	return all
}

// addTo adds the files of one icon.
func (s scene) addTo(all map[string][]byte, name string, sizes []int) {
	images := map[int]*image.NRGBA{}
	for _, size := range sizes {
		images[size] = s.paint(size, 0, s.coloured())
		all[fmt.Sprintf("%s-%d.png", name, size)] = encodePNG(images[size])
	}
	all[name+".ico"] = ico(images)
	all[name+".svg"] = s.svg()
	all[name+"-symbolic.svg"] = s.symbolic()
}

func encodePNG(img image.Image) []byte {
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&b, img); err != nil {
		panic("generate: " + err.Error()) // a buffer takes everything
	}
	return b.Bytes()
}

// ico puts the sizes of Windows into one file: bitmaps, which every Windows
// API reads, and a PNG from 256 on, where a bitmap would be large.
func ico(of map[int]*image.NRGBA) []byte {
	const header, entry = 6, 16
	var directory, images bytes.Buffer
	write(&directory, []uint16{0, 1, uint16(len(icoSizes))}) // reserved, an icon, how many
	for _, size := range icoSizes {
		data := bitmap(of[size])
		if size >= 256 {
			data = encodePNG(of[size])
		}
		write(&directory, []uint8{uint8(size), uint8(size), 0, 0}) // 256 is written as 0; no palette
		write(&directory, []uint16{1, 32})                         // planes, bits
		write(&directory, []uint32{uint32(len(data)), uint32(header + entry*len(icoSizes) + images.Len())})
		images.Write(data)
	}
	return append(directory.Bytes(), images.Bytes()...)
}

// bitmap is a BITMAPINFOHEADER, the pixels from the bottom up, and a mask for
// whoever does not know transparency.
func bitmap(img *image.NRGBA) []byte {
	size := img.Rect.Dx()
	stride := (size + 31) / 32 * 4
	mask := make([]byte, stride*size)
	var b bytes.Buffer
	write(&b, []uint32{40, uint32(size), uint32(2 * size), 1 | 32<<16, 0, 0, 0, 0, 0, 0}) // twice as high: with the mask
	for row := range size {
		for x := range size {
			c := img.NRGBAAt(x, size-1-row)
			b.Write([]byte{c.B, c.G, c.R, c.A})
			if c.A < 0x80 {
				mask[row*stride+x/8] |= 0x80 >> (x % 8)
			}
		}
	}
	b.Write(mask)
	return b.Bytes()
}

func write(b *bytes.Buffer, values any) {
	if err := binary.Write(b, binary.LittleEndian, values); err != nil {
		panic("generate: " + err.Error()) // a buffer takes everything
	}
}

// svg is the icon in its colours.
func (s scene) svg() []byte {
	return s.document(hex(s.colour), "#ffffff", s.cutouts(hole))
}

// symbolic is the icon in the colour of the text around it.
func (s scene) symbolic() []byte {
	return s.document("currentColor", "", s.cutouts(mark, hole))
}

// document draws fills and, unless their colour is "", marks. The mask is the
// definition of what is seen of them, or "".
func (s scene) document(fills, marks, mask string) []byte {
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" width="16" height="16">` + "\n")
	b.WriteString(mask)
	group := "<g>\n"
	if mask != "" {
		group = "<g mask=\"url(#seen)\">\n"
	}
	b.WriteString(group)
	s.elements(&b, inkColours{fill: fills, mark: marks})
	b.WriteString("</g>\n</svg>\n")
	return []byte(b.String())
}

// cutouts is a mask without what is in the given inks; "" if nothing is.
func (s scene) cutouts(cut ...ink) string {
	seen := inkColours{fill: "#ffffff", mark: "#ffffff"}
	needed := false
	for _, i := range cut {
		seen[i] = "#000000"
		for _, l := range s.layers {
			needed = needed || l.ink == i
		}
	}
	if !needed {
		return ""
	}
	var b strings.Builder
	b.WriteString("<mask id=\"seen\">\n")
	s.elements(&b, seen)
	b.WriteString("</mask>\n")
	return b.String()
}

// inkColours are colours as SVG writes them; "" leaves the ink out.
type inkColours [hole + 1]string

func (s scene) elements(b *strings.Builder, colours inkColours) {
	for _, l := range s.layers {
		c := colours[l.ink]
		if c == "" {
			continue
		}
		for _, sh := range l.shapes {
			b.WriteString(sh.svg(c) + "\n")
		}
	}
}

func hex(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }
