package assets_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"testing"

	"kerbpass/assets"
)

func decode(t *testing.T, data []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func width(t *testing.T, data []byte) int {
	t.Helper()
	b := decode(t, data).Bounds()
	if b.Dx() != b.Dy() {
		t.Errorf("%v is no square", b)
	}
	return b.Dx()
}

func TestSizes(t *testing.T) {
	for asked, want := range map[int]int{-1: 16, 16: 16, 17: 20, 20: 20, 22: 22, 24: 24, 32: 32, 48: 48, 64: 64, 65: 128, 128: 128, 256: 256, 1000: 256} {
		for _, state := range assets.States {
			if got := width(t, assets.Icon(state, asked)); got != want {
				t.Errorf("icon %s of %d: got %d, want %d", state, asked, got, want)
			}
		}
	}
	for asked, want := range map[int]int{0: 16, 16: 16, 20: 20, 24: 24, 32: 32, 48: 48, 64: 64, 128: 128, 256: 256, 257: 512, 512: 512, 513: 512} {
		if got := width(t, assets.App(asked)); got != want {
			t.Errorf("app of %d: got %d, want %d", asked, got, want)
		}
	}
}

func TestUnknownStateIsShown(t *testing.T) {
	for _, state := range []string{"", "made up", "../app", "valid-16.png"} {
		if !bytes.Equal(assets.Icon(state, 16), assets.Icon("problem", 16)) || !bytes.Equal(assets.ICO(state), assets.ICO("problem")) ||
			!bytes.Equal(assets.Template(state, 1), assets.Template("problem", 1)) || !bytes.Equal(assets.SVG(state, true), assets.SVG("problem", true)) {
			t.Errorf("%q: not shown as a problem", state)
		}
	}
}

// TestTemplates: macOS takes the shape from the transparency and expects black.
func TestTemplates(t *testing.T) {
	for _, state := range assets.States {
		for scale, want := range map[int]int{0: 18, 1: 18, 2: 36, 3: 36} {
			img := decode(t, assets.Template(state, scale))
			if got := img.Bounds().Dx(); got != want {
				t.Errorf("%s at scale %d: got %d, want %d", state, scale, got, want)
			}
			if opaque := opaqueBlack(t, img); opaque < want {
				t.Errorf("%s at scale %d: %d pixels are drawn", state, scale, opaque)
			}
		}
	}
}

func opaqueBlack(t *testing.T, img image.Image) (opaque int) {
	t.Helper()
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			if c.A != 0 && (c.R != 0 || c.G != 0 || c.B != 0) {
				t.Fatalf("pixel %d,%d is %v, not black", x, y, c)
			}
			if c.A == 0xff {
				opaque++
			}
		}
	}
	return opaque
}

// TestICO reads the files as Windows does and compares each image with the
// PNG of its size.
func TestICO(t *testing.T) {
	all := map[string][]byte{"app": assets.AppICO()}
	for _, state := range assets.States {
		all[state] = assets.ICO(state)
	}
	for name, data := range all {
		if kind, count := binary.LittleEndian.Uint16(data[2:]), binary.LittleEndian.Uint16(data[4:]); kind != 1 || count != 6 {
			t.Fatalf("%s: kind %d with %d images", name, kind, count)
		}
		for i, want := range []int{16, 20, 24, 32, 48, 256} {
			entry := data[6+16*i:]
			length, offset := binary.LittleEndian.Uint32(entry[8:]), binary.LittleEndian.Uint32(entry[12:])
			if int(entry[0]) != want%256 || int(entry[1]) != want%256 {
				t.Errorf("%s: image %d says %d by %d, want %d", name, i, entry[0], entry[1], want)
			}
			part := data[offset : offset+length]
			if want == 256 {
				if got := width(t, part); got != want {
					t.Errorf("%s: got %d, want %d", name, got, want)
				}
				continue
			}
			of := assets.App(want)
			if name != "app" {
				of = assets.Icon(name, want)
			}
			checkBitmap(t, part, decode(t, of))
		}
	}
}

func checkBitmap(t *testing.T, dib []byte, want image.Image) {
	t.Helper()
	size := want.Bounds().Dx()
	stride := (size + 31) / 32 * 4
	if len(dib) != 40+4*size*size+stride*size || binary.LittleEndian.Uint32(dib[8:]) != uint32(2*size) {
		t.Fatalf("bitmap of %d bytes for %d pixels", len(dib), size)
	}
	for y := range size {
		for x := range size {
			row := size - 1 - y
			px := dib[40+4*(row*size+x):]
			got := color.NRGBA{px[2], px[1], px[0], px[3]}
			masked := dib[40+4*size*size+row*stride+x/8]&(0x80>>(x%8)) != 0
			if c := color.NRGBAModel.Convert(want.At(x, y)).(color.NRGBA); got != c || masked != (c.A < 0x80) {
				t.Fatalf("%d: pixel %d,%d: got %v masked %v, want %v", size, x, y, got, masked, c)
			}
		}
	}
}

func TestDrawings(t *testing.T) {
	for _, state := range assets.States {
		if a, b := assets.SVG(state, false), assets.SVG(state, true); len(a) == 0 || bytes.Equal(a, b) {
			t.Errorf("%s: the symbolic drawing must be another", state)
		}
	}
	if bytes.Equal(assets.AppSVG(false), assets.AppSVG(true)) || len(assets.AppSVG(false)) == 0 {
		t.Error("the symbolic drawing must be another")
	}
}
