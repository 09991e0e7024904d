//go:build screenshots

package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLiveScreenshot takes the picture of the live view that the manual shows,
// from a terminal (tmux). Run it with `make screenshots`.
func TestLiveScreenshot(t *testing.T) {
	const columns, lines = 130, 32
	socket := filepath.Join(t.TempDir(), "dnstap.sock")
	m := startTmux(t, columns, lines, "--live", "--unix", socket)
	tap := sendTo(t, socket)
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		traffic(t, tap, 49)
	}
	screen := strings.ReplaceAll(m.wait("CLIENTS", "broken.example.org."), socket, "/run/dnstap.sock")
	if err := os.WriteFile("../../docs/tap-live.svg", []byte(picture(screen, columns, lines)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The size of a character, in pixels.
const (
	charWidth  = 8.4
	charHeight = 18
)

// picture draws a terminal's screen.
func picture(screen string, columns, lines int) string {
	var b strings.Builder
	width, height := float64(columns)*charWidth+20, lines*charHeight+20
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %[1]f %[2]d">`+"\n", width, height)
	b.WriteString(`<rect width="100%" height="100%" rx="8" fill="#12151a"/>` + "\n")
	b.WriteString(`<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14" fill="#e6e9ee" xml:space="preserve">` + "\n")
	for i, line := range strings.Split(strings.TrimRight(screen, "\n"), "\n") {
		weight := ""
		if i == 0 || i == lines-1 {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(&b, `<text x="10" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s>%s</text>`+"\n",
			(i+1)*charHeight+6, float64(len(line))*charWidth, weight, html.EscapeString(line))
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}
