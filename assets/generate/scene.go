package main

import "image/color"

// ink is what a layer does to what lies below it.
type ink int

const (
	none ink = iota
	fill     // the icon's colour
	mark     // white; cut out where the icon has one colour only
	hole     // cut out
)

// A layer is some shapes in one ink.
type layer struct {
	ink    ink
	shapes []shape
}

// A scene is an icon, its layers from the bottom to the top.
type scene struct {
	colour color.NRGBA
	layers []layer
}

// The colours have a contrast of at least 3 to 1 with the white of the marks,
// with light panels and with dark ones.
var (
	green = color.NRGBA{0x1e, 0x8e, 0x3e, 0xff}
	amber = color.NRGBA{0xc2, 0x70, 0x00, 0xff}
	red   = color.NRGBA{0xdb, 0x37, 0x2c, 0xff}
	grey  = color.NRGBA{0x7a, 0x80, 0x87, 0xff}
	blue  = color.NRGBA{0x2f, 0x74, 0xd0, 0xff}
	white = color.NRGBA{0xff, 0xff, 0xff, 0xff}
	black = color.NRGBA{0x00, 0x00, 0x00, 0xff}
)

// pass is the ticket that most icons are. Its edges lie on whole pixels at 16
// and its multiples.
var pass = ticket{box{0, 2, 16, 12, 2}, 1.5}

// states are the icons by the names that package ui gives them. No two have
// the same outline and the same mark, so that nobody depends on colours.
var states = map[string]scene{
	"valid": {green, []layer{{fill, []shape{pass}}, {mark, []shape{
		stroke{[]point{{4.5, 8}, {7, 10.5}, {11.5, 5.5}}, 2},
	}}}},
	"expiring": {amber, []layer{{fill, []shape{disc{point{8, 8}, 8}}}, {mark, []shape{
		stroke{[]point{{8, 3.5}, {8, 8}, {11.5, 10}}, 2},
	}}}},
	"expired": {red, []layer{{fill, []shape{pass}}, {mark, []shape{
		stroke{[]point{{5, 5}, {11, 11}}, 2},
		stroke{[]point{{11, 5}, {5, 11}}, 2},
	}}}},
	"none": {grey, []layer{{fill, []shape{pass}}, {hole, []shape{
		ticket{box{2, 4, 12, 8, 0.5}, 1.5},
	}}}},
	"off": {grey, []layer{{fill, []shape{pass}}, {mark, []shape{
		box{5, 5, 2, 6, 0}, box{9, 5, 2, 6, 0},
	}}}},
	"problem": {red, []layer{{fill, []shape{polygon{[]point{{8, 2}, {14.5, 14}, {1.5, 14}}, 1.5}}}, {mark, []shape{
		box{7, 5, 2, 5, 0.5}, box{7, 11, 2, 2, 0.5},
	}}}},
}

// app is the program's own icon: a ticket with a key in it.
var app = scene{blue, []layer{
	{fill, []shape{box{0, 0, 16, 16, 3.5}}},
	{mark, []shape{ticket{box{1, 3, 14, 10, 1.5}, 1.25}}},
	{fill, []shape{
		disc{point{5.5, 8}, 2.5},
		stroke{[]point{{5.5, 8}, {12.25, 8}, {12.25, 10}}, 1.5},
		stroke{[]point{{9.5, 8}, {9.5, 9.75}}, 1.5},
	}},
	{mark, []shape{disc{point{5.5, 8}, 1}}},
}}
