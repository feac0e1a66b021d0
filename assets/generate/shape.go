package main

import (
	"fmt"
	"math"
	"strings"
)

// A point in units of the icon, which is 16 wide and 16 high.
type point struct{ x, y float64 }

func (p point) minus(q point) point { return point{p.x - q.x, p.y - q.y} }
func (p point) dot(q point) float64 { return p.x*q.x + p.y*q.y }
func (p point) length() float64     { return math.Sqrt(p.dot(p)) }

// A shape is an area of the icon.
type shape interface {
	// distance is how far p is from the edge, below zero inside. It never
	// changes faster than p moves, which lets the painter skip what is far
	// from an edge.
	distance(p point) float64
	svg(colour string) string
}

// disc is a circle with all that is in it.
type disc struct {
	centre point
	radius float64
}

func (d disc) distance(p point) float64 { return p.minus(d.centre).length() - d.radius }

func (d disc) svg(colour string) string {
	return fmt.Sprintf(`<circle cx="%v" cy="%v" r="%v" fill="%s"/>`, d.centre.x, d.centre.y, d.radius, colour)
}

// box is a rectangle with rounded corners.
type box struct{ x, y, w, h, radius float64 }

func (b box) distance(p point) float64 {
	corner := point{b.w/2 - b.radius, b.h/2 - b.radius}
	q := point{math.Abs(p.x - b.x - b.w/2), math.Abs(p.y - b.y - b.h/2)}.minus(corner)
	outside := point{max(q.x, 0), max(q.y, 0)}.length()
	return outside + min(max(q.x, q.y), 0) - b.radius
}

// fitted moves each edge to the nearest whole pixel. Halves go to even ones,
// which keeps what is symmetrical so.
func (b box) fitted(pixel float64) box {
	near := func(v float64) float64 { return math.RoundToEven(v/pixel) * pixel }
	x, y := near(b.x), near(b.y)
	return box{x, y, near(b.x+b.w) - x, near(b.y+b.h) - y, b.radius}
}

func (b box) svg(colour string) string {
	return fmt.Sprintf(`<rect x="%v" y="%v" width="%v" height="%v" rx="%v" fill="%s"/>`, b.x, b.y, b.w, b.h, b.radius, colour)
}

// ticket is a box with half a disc bitten out of its left and right edge.
type ticket struct {
	box
	bite float64
}

func (t ticket) distance(p point) float64 {
	middle := t.y + t.h/2
	left, right := disc{point{t.x, middle}, t.bite}, disc{point{t.x + t.w, middle}, t.bite}
	return max(t.box.distance(p), -left.distance(p), -right.distance(p))
}

func (t ticket) svg(colour string) string {
	r, bite, half := t.radius, t.bite, t.h/2-t.radius-t.bite
	corner := func(dx, dy float64) string { return fmt.Sprintf("a%v %v 0 0 1 %v %v", r, r, dx, dy) }
	bitten := func(dy float64) string { return fmt.Sprintf("a%v %v 0 0 0 0 %v", bite, bite, dy) }
	return fmt.Sprintf(`<path d="M%v %vh%v%sv%v%sv%v%sh%v%sv%v%sv%v%sz" fill="%s"/>`, t.x+r, t.y, t.w-2*r,
		corner(r, r), half, bitten(2*bite), half, corner(-r, r), -(t.w - 2*r),
		corner(-r, -r), -half, bitten(-2*bite), -half, corner(r, -r), colour)
}

// stroke is a line through points, with round ends and joints.
type stroke struct {
	points []point
	width  float64
}

func (s stroke) distance(p point) float64 {
	nearest := math.Inf(1)
	for i := range s.points[1:] {
		nearest = min(nearest, toSegment(p, s.points[i], s.points[i+1]))
	}
	return nearest - s.width/2
}

func (s stroke) svg(colour string) string {
	return fmt.Sprintf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="%v" stroke-linecap="round" stroke-linejoin="round"/>`,
		list(s.points), colour, s.width)
}

// polygon is an area with straight edges, its corners rounded by radius, which
// it grows by.
type polygon struct {
	points []point
	radius float64
}

func (g polygon) distance(p point) float64 {
	nearest, inside := math.Inf(1), false
	for i, a := range g.points {
		b := g.points[(i+1)%len(g.points)]
		nearest = min(nearest, toSegment(p, a, b))
		if (a.y > p.y) != (b.y > p.y) && p.x < (b.x-a.x)*(p.y-a.y)/(b.y-a.y)+a.x {
			inside = !inside
		}
	}
	if inside {
		nearest = -nearest
	}
	return nearest - g.radius
}

func (g polygon) svg(colour string) string {
	return fmt.Sprintf(`<polygon points="%s" fill="%s" stroke="%s" stroke-width="%v" stroke-linejoin="round"/>`,
		list(g.points), colour, colour, 2*g.radius)
}

// toSegment is the distance from p to the line from a to b.
func toSegment(p, a, b point) float64 {
	along := b.minus(a)
	t := min(max(p.minus(a).dot(along)/along.dot(along), 0), 1)
	return p.minus(point{a.x + t*along.x, a.y + t*along.y}).length()
}

func list(points []point) string {
	var all []string
	for _, p := range points {
		all = append(all, fmt.Sprintf("%v,%v", p.x, p.y))
	}
	return strings.Join(all, " ")
}
