package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// monitoring is where the alerts and the dashboard are.
const monitoring = "../../deploy/monitoring"

// expressions returns the expressions of the alerts and of the dashboard, by
// what they belong to.
func expressions(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	rules, err := os.ReadFile(monitoring + "/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alert := ""
	for line := range strings.Lines(string(rules)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "- alert: "):
			alert = strings.TrimPrefix(line, "- alert: ")
		case strings.HasPrefix(line, "expr: '"):
			out[alert] = append(out[alert], strings.TrimSuffix(strings.TrimPrefix(line, "expr: '"), "'"))
		}
	}
	text, err := os.ReadFile(monitoring + "/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Query json.RawMessage }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			out["panel "+p.Title] = append(out["panel "+p.Title], target.Expr)
		}
	}
	for _, v := range board.Templating.List {
		var q struct{ Query string }
		if json.Unmarshal(v.Query, &q) == nil {
			out["variables"] = append(out["variables"], q.Query)
		}
	}
	return out
}

// known returns all metrics by name, those of histograms by the names of their
// series.
func known(t *testing.T) map[string]Metric {
	t.Helper()
	out := map[string]Metric{"up": {}} // Prometheus's own
	foreign, err := Foreign()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range foreign {
		out[m.Name] = m
	}
	for _, g := range Table() {
		for _, m := range g.Metrics {
			if m.Kind != Histogram {
				out[m.Name] = m
				continue
			}
			for _, end := range []string{"_bucket", "_sum", "_count"} {
				h := m
				h.Labels = append(slices.Clone(m.Labels), "le")
				out[m.Name+end] = h
			}
		}
	}
	return out
}

var (
	selectors = regexp.MustCompile(`\b((?:shirube|go|process)_[a-z0-9_]+|up)(?:\{([^}]*)\})?`)
	matchers  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	groupings = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
)

// TestAlertsAndPanelsNameWhatExists holds names of metrics, their labels, and
// the labels' values to the table.
func TestAlertsAndPanelsNameWhatExists(t *testing.T) {
	metrics, told := known(t), scrape(t, full())
	of := []string{"instance", "job"} // Prometheus gives them
	uses := 0
	for where, list := range expressions(t) {
		for _, expr := range list {
			labels := slices.Clone(of)
			for _, m := range selectors.FindAllStringSubmatch(expr, -1) {
				metric, ok := metrics[m[1]]
				if !ok {
					t.Errorf("%s: there is no metric %s", where, m[1])
					continue
				}
				uses++
				labels = append(labels, metric.Labels...)
				checkMatchers(t, where, m[1], m[2], append(metric.Labels, of...), told)
			}
			for _, m := range groupings.FindAllStringSubmatch(expr, -1) {
				for label := range strings.SplitSeq(m[1], ",") {
					if label = strings.TrimSpace(label); !slices.Contains(labels, label) {
						t.Errorf("%s: no metric of %s has the label %s", where, expr, label)
					}
				}
			}
		}
	}
	if uses < 80 {
		t.Errorf("only %d metrics were looked at", uses)
	}
}

// checkMatchers holds the matchers of one metric to its labels and what is told
// of them.
func checkMatchers(t *testing.T, where, name, text string, labels []string, told string) {
	t.Helper()
	for _, m := range matchers.FindAllStringSubmatch(text, -1) {
		label, values := m[1], m[3]
		switch {
		case !slices.Contains(labels, label):
			t.Errorf("%s: %s has no label %s", where, name, label)
		case label == "instance" || label == "job":
		default:
			for value := range strings.SplitSeq(values, "|") {
				series := regexp.MustCompile(`(?m)^` + name + `\{[^}]*\b` + label + `="` + regexp.QuoteMeta(value) + `"`)
				if !series.MatchString(told) {
					t.Errorf("%s: %s never has %s=%q", where, name, label, value)
				}
			}
		}
	}
}

// TestAlertsSayWhatToDo holds each alert to having what people need who are woken
// by it.
func TestAlertsSayWhatToDo(t *testing.T) {
	rules, err := os.ReadFile(monitoring + "/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(rules), "- alert: ")[1:]
	for _, b := range blocks {
		name, _, _ := strings.Cut(b, "\n")
		for _, want := range []string{"expr: '", "for: ", "severity: ", "summary: '{{ $labels.instance }} ", "description: '"} {
			if strings.Count(b, want) != 1 {
				t.Errorf("%s: %q is not there once", name, want)
			}
		}
	}
	if len(blocks) < 20 {
		t.Errorf("%d alerts", len(blocks))
	}
}

// TestPrometheusTakesTheAlerts has Prometheus's own tool read them, and play what
// deploy/monitoring/alerts_test.yaml says.
func TestPrometheusTakesTheAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		c := exec.CommandContext(t.Context(), "promtool", args...)
		c.Dir = monitoring
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
