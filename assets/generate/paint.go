package main

import (
	"image"
	"image/color"
	"math"
)

// inks are what is painted where an ink is seen; the zero colour is nothing.
type inks [hole + 1]color.NRGBA

func (s scene) coloured() inks { return inks{fill: s.colour, mark: white} }

// template is for panels that colour icons themselves.
func (s scene) template() inks { return inks{fill: black} }

// onEdge decides for points on an edge, which rounding places on either side
// of it, differently on different processors.
const onEdge = 1e-9

// at returns the ink seen at p.
func (s scene) at(p point) ink {
	for i := range s.layers {
		l := s.layers[len(s.layers)-1-i]
		for _, sh := range l.shapes {
			if sh.distance(p) <= onEdge {
				return l.ink
			}
		}
	}
	return none
}

// nearEdge tells whether an edge is within reach of p.
func (s scene) nearEdge(p point, reach float64) bool {
	for _, l := range s.layers {
		for _, sh := range l.shapes {
			if math.Abs(sh.distance(p)) <= reach {
				return true
			}
		}
	}
	return false
}

// samples is how many points of a pixel are looked at in each direction where
// an edge runs through it.
const samples = 8

// paint draws the units from -margin to 16+margin on size by size pixels.
func (s scene) paint(size int, margin float64, with inks) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	unit := (16 + 2*margin) / float64(size) // of one pixel
	s = s.fitted(unit)
	for y := range size {
		for x := range size {
			corner := point{float64(x)*unit - margin, float64(y)*unit - margin}
			img.SetNRGBA(x, y, s.pixel(corner, unit, with))
		}
	}
	return img
}

// fitted returns s with the straight edges of its boxes on whole pixels of that
// size, so that they are sharp at 20, 22 and 24 pixels too.
func (s scene) fitted(pixel float64) scene {
	fitted := scene{colour: s.colour}
	for _, l := range s.layers {
		shapes := make([]shape, len(l.shapes))
		for i, sh := range l.shapes {
			switch sh := sh.(type) {
			case box:
				shapes[i] = sh.fitted(pixel)
			case ticket:
				shapes[i] = ticket{sh.box.fitted(pixel), sh.bite}
			default:
				shapes[i] = sh
			}
		}
		fitted.layers = append(fitted.layers, layer{l.ink, shapes})
	}
	return fitted
}

// pixel returns the mean colour of the square with its upper left at corner.
func (s scene) pixel(corner point, side float64, with inks) color.NRGBA {
	if centre := (point{corner.x + side/2, corner.y + side/2}); !s.nearEdge(centre, side) {
		return with[s.at(centre)]
	}
	var r, g, b, seen int
	for j := range samples {
		for i := range samples {
			step := side / samples
			c := with[s.at(point{corner.x + (float64(i)+0.5)*step, corner.y + (float64(j)+0.5)*step})]
			if c.A != 0 {
				r, g, b, seen = r+int(c.R), g+int(c.G), b+int(c.B), seen+1
			}
		}
	}
	if seen == 0 {
		return color.NRGBA{}
	}
	return color.NRGBA{uint8(r / seen), uint8(g / seen), uint8(b / seen), uint8(255 * seen / (samples * samples))}
}
