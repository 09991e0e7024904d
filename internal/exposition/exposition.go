// Package exposition writes metrics as Prometheus reads them (text format 0.0.4), for
// programs that have too few to need a library.
package exposition

import (
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Text is metrics in the making.
type Text struct{ b strings.Builder }

// Family begins the metrics of a name.
func (t *Text) Family(name, kind, help string) {
	t.b.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// escapes are those of a label's value.
var escapes = strings.NewReplacer("\\", `\\`, "\n", `\n`, `"`, `\"`)

// Sample writes one value; labels are names and values by turns.
func (t *Text) Sample(name string, value float64, labels ...string) {
	t.b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		t.b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + labels[i] + `="` + escapes.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		t.b.WriteByte('}')
	}
	t.b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// Single writes a family of one value.
func (t *Text) Single(name, kind, help string, value float64) {
	t.Family(name, kind, help)
	t.Sample(name, value)
}

// Send writes what there is to w.
func (t *Text) Send(w io.Writer) error {
	_, err := io.WriteString(w, t.b.String())
	return err
}

// Handler answers Prometheus with what write writes, anew each time.
func Handler(write func(io.Writer) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = write(w) // to a client that has gone
	})
}
