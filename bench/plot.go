package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// chart is a picture of horizontal bars in groups, each with an axis of its own.
type chart struct {
	slug   string // of its file
	title  string
	note   string // below the title
	groups []barGroup
}

type barGroup struct {
	title string
	bars  []bar
}

// bar is a median with the ends of its spread.
type bar struct {
	label string
	value spread
	text  string // behind it
	color string
}

// file is what the files of c are called, without their endings, in a report whose
// own are called base.
func (c *chart) file(base string) string { return base + "-" + c.slug }

// Measures of a chart in px.
const (
	chartWidth  = 860
	chartLeft   = 110 // of the bars; labels stand before it
	chartRight  = 230 // for the numbers behind them
	chartTop    = 74
	groupTop    = 30
	groupBottom = 16
	barHeight   = 16
	barPitch    = 21
)

// barColors are one for each server, in their order; Shirube has its own.
var barColors = []string{"#9aa5b1", "#b8a99a", "#8fae9b", "#a99ab8", "#b0b39a", "#9ab3b8"}

const (
	subjectColor = "#2f6fde"
	echoColor    = "#d9d9d9"
)

// svg draws c.
func (c *chart) svg() string {
	height := chartTop
	for _, g := range c.groups {
		height += groupTop + barPitch*len(g.bars) + groupBottom
	}
	var b strings.Builder
	svgHead(&b, height, c.title, c.note)
	y := chartTop
	for _, g := range c.groups {
		y = g.draw(&b, y)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// svgHead begins a picture of that height, with what stands above all.
func svgHead(b *strings.Builder, height int, title, note string) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">`+"\n", chartWidth, height)
	fmt.Fprintf(b, `<title>%s</title>`+"\n", escape(title))
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	fmt.Fprintf(b, `<text x="16" y="28" font-size="17" font-weight="bold" fill="#222222">%s</text>`+"\n", escape(title))
	fmt.Fprintf(b, `<text x="16" y="50" fill="#555555">%s</text>`+"\n", escape(note))
}

// canPlot returns an error if writePlot cannot: better now than in an hour.
func canPlot() error {
	if _, err := exec.LookPath("rsvg-convert"); err != nil {
		return fmt.Errorf("for plots as PNG: %w; on Debian it is in librsvg2-bin", err)
	}
	return nil
}

// writePlot writes a picture to files, as SVG and as PNG.
func writePlot(ctx context.Context, path, svg string) error {
	if err := writeFiles(map[string]string{path + ".svg": svg}); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "rsvg-convert", "-o", path+".png", path+".svg").CombinedOutput(); err != nil {
		return fmt.Errorf("rsvg-convert (Debian: librsvg2-bin): %w: %s", err, out)
	}
	return nil
}

// draw draws g from y on, and returns where the next one begins.
func (g *barGroup) draw(b *strings.Builder, y int) int {
	most := 0.0
	for _, bar := range g.bars {
		most = max(most, bar.value.Max)
	}
	at := func(v float64) float64 {
		if most == 0 {
			return chartLeft
		}
		return chartLeft + v/most*(chartWidth-chartLeft-chartRight)
	}
	fmt.Fprintf(b, `<text x="16" y="%d" font-weight="bold" fill="#222222">%s</text>`+"\n", y+14, escape(g.title))
	y += groupTop
	for _, bar := range g.bars {
		middle := float64(y) + barHeight/2
		fmt.Fprintf(b, `<text x="%d" y="%.0f" text-anchor="end" fill="#222222">%s</text>`+"\n", chartLeft-8, middle+4, escape(bar.label))
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", chartLeft, y, at(bar.value.Median)-chartLeft, barHeight, bar.color)
		if bar.value.Max > bar.value.Min {
			fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8" stroke="#222222" fill="none"/>`+"\n",
				at(bar.value.Min), middle, at(bar.value.Max), at(bar.value.Min), middle-4, at(bar.value.Max), middle-4)
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f" fill="#222222">%s</text>`+"\n", at(bar.value.Max)+8, middle+4, escape(bar.text))
		y += barPitch
	}
	return y + groupBottom
}

// escape makes s the text of an XML element.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// color is that of a server's bars.
func (r *fullReport) color(server string) string {
	for i, s := range r.Servers {
		if s.Name == server {
			return serverColor(s.Kind, i)
		}
	}
	return barColors[0]
}

// serverColor is that of the i-th server, of a kind.
func serverColor(kind string, i int) string {
	switch {
	case kind == "echo":
		return echoColor
	case strings.HasPrefix(kind, subject):
		return subjectColor
	}
	return barColors[i%len(barColors)]
}

// group is a work's bars of a measure; it has none if it was not measured.
func (r *fullReport) group(w *workResult, key, title string) barGroup {
	g := barGroup{title: title}
	digits := findMeasure(key).digits
	for i := range w.Rows {
		row := &w.Rows[i]
		s, ok := row.Spread[key]
		if !ok {
			continue
		}
		text := fmt.Sprintf("%.*f", digits, s.Median)
		if ratio := row.Ratio[key].Median; ratio > 0 {
			text += fmt.Sprintf(" (%.2f × %s's)", ratio, r.Servers[0].Name)
		}
		g.bars = append(g.bars, bar{label: row.Server, value: s, text: text, color: r.color(row.Server)})
	}
	return g
}

// plots are the charts of what was measured.
func (r *fullReport) plots() []*chart {
	note := fmt.Sprintf("%s; median and ends of %d rounds; %s, %d cores", r.Date.Format(time.DateOnly), r.Rounds, r.CPU, r.Cores)
	all := []*chart{
		{slug: "cpu", title: "Server CPU per query or name, µs: less is better", note: note},
		{slug: "rate", title: "Answers per second, with the load on the same machine: more is better", note: note},
		{slug: "latency", title: fmt.Sprintf("Latency at %d queries a second, ms: less is better", r.Rate), note: note},
		{slug: "memory", title: "Memory in RAM, MiB: less is better", note: r.Date.Format(time.DateOnly)},
	}
	for _, w := range r.Works {
		for _, key := range w.Measures {
			m := findMeasure(key)
			switch {
			case key == perQuery && w.Name != "latency":
				all[0].add(r.group(w, key, w.Title))
			case key == perSecond:
				all[1].add(r.group(w, key, w.Title))
			case w.Name == "latency" && key != perQuery:
				all[2].add(r.group(w, key, m.title))
			case w.Name == "memory":
				all[3].add(r.group(w, key, m.title))
			}
		}
	}
	var drawn []*chart
	for _, c := range all {
		if len(c.groups) > 0 {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

// add adds a group that has bars.
func (c *chart) add(g barGroup) {
	if len(g.bars) > 0 {
		c.groups = append(c.groups, g)
	}
}
