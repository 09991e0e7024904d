package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
)

// statusPage is the page with the server's state. It is one file: it loads
// nothing from anywhere but the document that it shows.
//
//go:embed status.html
var statusPage []byte

// pagePolicy is what the page may do: run its own script and style, which are
// known by their hashes, and ask this server.
var pagePolicy = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"script-src " + source("script") + "; style-src " + source("style")

// source returns the source expression for what is between the tags of the page
// (CSP 3 §2.3.1).
func source(tag string) string {
	_, rest, _ := bytes.Cut(statusPage, []byte("<"+tag+">"))
	text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
	sum := sha256.Sum256(text)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// serveStatusPage serves the page.
func serveStatusPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(statusPage) // to a client that has gone
}
