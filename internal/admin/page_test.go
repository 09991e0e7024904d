package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// void are the elements without an end tag (HTML §13.1.2).
var void = []string{"meta", "br", "hr", "img", "input", "link"}

// between returns what is between the tags of the page.
func between(t *testing.T, tag string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(statusPage), "<"+tag+">")
	text, _, ok2 := strings.Cut(rest, "</"+tag+">")
	if !ok || !ok2 {
		t.Fatalf("the page has no %s", tag)
	}
	return text
}

func TestPageIsWellFormed(t *testing.T) {
	html := string(statusPage)
	for _, tag := range []string{"script", "style"} { // what is in them is not markup
		html = strings.Replace(html, between(t, tag), "", 1)
	}
	var open []string
	for _, m := range regexp.MustCompile(`<(/?)([a-z0-9]+)[^>]*>`).FindAllStringSubmatch(html, -1) {
		switch {
		case slices.Contains(void, m[2]):
		case m[1] == "":
			open = append(open, m[2])
		case len(open) == 0 || open[len(open)-1] != m[2]:
			t.Fatalf("</%s> ends %v", m[2], open)
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) != 0 {
		t.Errorf("%v stay open", open)
	}
	ids := make(map[string]int)
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		ids[m[1]]++
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%d elements are called %s", n, id)
		}
	}
	for _, m := range regexp.MustCompile(`(?:\$|show|bars)\('([a-z]+)'`).FindAllStringSubmatch(between(t, "script"), -1) {
		if ids[m[1]] == 0 {
			t.Errorf("the script looks for %s, which is not there", m[1])
		}
	}
}

// TestPageIsWhole holds that it loads nothing from elsewhere, which would tell
// others who looks, and need a way out; and that it makes no markup of data.
func TestPageIsWhole(t *testing.T) {
	html := string(statusPage)
	for _, not := range []string{"http:", "https:", "src=", "href=", "@import", "url(", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage", "onclick="} {
		if strings.Contains(html, not) {
			t.Errorf("found %q", not)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", "width=device-width", `lang="en"`} {
		if !strings.Contains(html, want) {
			t.Errorf("without %q", want)
		}
	}
}

func TestPageMayRunItsOwnScriptAlone(t *testing.T) {
	w := httptest.NewRecorder()
	serveStatusPage(w, nil)
	policy := w.Header().Get("Content-Security-Policy")
	for _, tag := range []string{"script", "style"} {
		sum := sha256.Sum256([]byte(between(t, tag)))
		if want := tag + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
			t.Errorf("%s is without %s", policy, want)
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("the page may too much: %s", policy)
	}
}

// TestPageShowsTextAsText: what the server is told by others (names of zones, servers
// and certificates) never becomes markup (CVE-2026-0396).
func TestPageShowsTextAsText(t *testing.T) {
	script := between(t, "script")
	for _, way := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "createContextualFragment", "DOMParser", "srcdoc", "eval(", "Function("} {
		if strings.Contains(script, way) {
			t.Errorf("the script uses %s", way)
		}
	}
	if !strings.Contains(script, "textContent") {
		t.Error("the script shows nothing")
	}
}
