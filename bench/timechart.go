package main

import (
	"fmt"
	"math"
	"strings"
)

// timeChart is a picture of what went on over time: panels with lines, one above
// the other, with a point for each second, and the moments when something was
// done.
type timeChart struct {
	title  string
	note   string // below the title
	panels []panel
	marks  []mark
}

// panel is some lines with an axis of their own.
type panel struct {
	title  string
	height int // px
	lines  []line
}

// line is a value for each second.
type line struct {
	label  string
	color  string
	values []float64
}

// mark is a moment, in seconds from the beginning.
type mark struct {
	at    float64
	label string
}

// Measures of a timeChart in px, besides those of a chart.
const (
	panelLeft    = 70 // of the lines; the axis stands before them
	panelRight   = 150
	panelTop     = 34
	panelGap     = 26
	failureColor = "#c0392b"
)

// svg draws c.
func (c *timeChart) svg() string {
	height := chartTop
	for i := range c.panels {
		height += panelTop + c.panels[i].height + panelGap
	}
	var b strings.Builder
	svgHead(&b, height, c.title, c.note)
	y := chartTop
	for i := range c.panels {
		y = c.draw(&b, &c.panels[i], y, i == 0)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// seconds is how many points the longest line has.
func (c *timeChart) seconds() (n int) {
	for i := range c.panels {
		for k := range c.panels[i].lines {
			n = max(n, len(c.panels[i].lines[k].values))
		}
	}
	return n
}

// draw draws p from y on, and returns where the next one begins. The first has the
// marks' words.
func (c *timeChart) draw(b *strings.Builder, p *panel, y int, first bool) int {
	most := 0.0
	for i := range p.lines {
		for _, v := range p.lines[i].values {
			most = max(most, v)
		}
	}
	top := roundUp(most)
	width := float64(chartWidth - panelLeft - panelRight)
	x := func(second float64) float64 { return panelLeft + second/float64(max(c.seconds(), 1))*width }
	bottom := y + panelTop + p.height
	at := func(v float64) float64 { return float64(bottom) - v/top*float64(p.height) }
	fmt.Fprintf(b, `<text x="16" y="%d" font-weight="bold" fill="#222222">%s</text>`+"\n", y+14, escape(p.title))
	for i := range 5 {
		v := top * float64(i) / 4
		fmt.Fprintf(b, `<path d="M%d %.1fH%.1f" stroke="#e4e4e4"/>`+"\n", panelLeft, at(v), x(float64(c.seconds())))
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" font-size="10" fill="#555555">%.6g</text>`+"\n", panelLeft-6, at(v)+3, v)
	}
	for second := 0; second <= c.seconds(); second += 10 {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" font-size="10" fill="#555555">%d s</text>`+"\n", x(float64(second)), bottom+14, second)
	}
	for _, m := range c.marks {
		fmt.Fprintf(b, `<path d="M%.1f %dV%d" stroke="#222222" stroke-dasharray="3 3"/>`+"\n", x(m.at), y+panelTop, bottom)
		if first {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" font-size="10" fill="#222222">%s</text>`+"\n", x(m.at), y+panelTop-5, escape(m.label))
		}
	}
	for i := range p.lines {
		l := &p.lines[i]
		var path strings.Builder
		for k, v := range l.values {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(k, 1)], x(float64(k)+0.5), at(v))
		}
		fmt.Fprintf(b, `<path d="%s" stroke="%s" stroke-width="1.5" fill="none"/>`+"\n", path.String(), l.color)
		middle := y + panelTop + 8 + 16*i
		fmt.Fprintf(b, `<path d="M%d %dh14" stroke="%s" stroke-width="3"/>`+"\n", chartWidth-panelRight+12, middle, l.color)
		fmt.Fprintf(b, `<text x="%d" y="%d" font-size="11" fill="#222222">%s</text>`+"\n", chartWidth-panelRight+32, middle+4, escape(l.label))
	}
	return bottom + panelGap
}

// roundUp returns a number that is not less than v, and whose fourth part is
// short.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	ten := math.Pow(10, math.Floor(math.Log10(v)))
	for _, times := range []float64{1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8} {
		if v <= times*ten {
			return times * ten
		}
	}
	return 10 * ten
}
