// Command gen writes docs/metrics.md from the table of package metrics. Run it
// with `go generate ./internal/metrics`.
package main

import (
	"fmt"
	"os"

	"shirube/internal/metrics"
)

func main() {
	text, err := metrics.Document()
	if err == nil {
		err = os.WriteFile("../../docs/metrics.md", text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}
