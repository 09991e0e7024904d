package archtest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryAttackHasAMetricAndATest reads the table of attacks in docs/limits.md: each
// row has something that bounds it, a metric that exists, and tests, and no attack that
// is tested is missing.
func TestEveryAttackHasAMetricAndATest(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := os.ReadFile("../../docs/metrics.md") // which a test of its own holds to the table
	if err != nil {
		t.Fatal(err)
	}
	harness, err := os.ReadFile("../../transport/attacks_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Attacks\n")
	section, _, _ = strings.Cut(section, "\n## ")
	attacks := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^\t\t\{"([A-Z][^"]+)", `).FindAllStringSubmatch(string(harness), -1) {
		attacks[m[1]] = false
	}
	if len(attacks) < 30 {
		t.Errorf("only %d attacks are tested", len(attacks))
	}
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Attack") || len(cells) != 6 {
			continue
		}
		rows++
		told := regexp.MustCompile("`(shirube_[a-z0-9_]+)`").FindAllStringSubmatch(cells[3], -1)
		for _, m := range told {
			if !strings.Contains(string(metrics), "| `"+m[1]+"` |") {
				t.Errorf("no metric %s:\n%s", m[1], line)
			}
		}
		if len(told) == 0 || strings.TrimSpace(cells[2]) == "" || !strings.Contains(cells[4], "`Test") { // TestLimitsPageNamesWhatExists looks for them
			t.Errorf("no bound, metric or test:\n%s", line)
		}
		for _, m := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(cells[4], -1) {
			if _, tested := attacks[m[1]]; !tested {
				t.Errorf("no attack %q:\n%s", m[1], line)
			}
			attacks[m[1]] = true
		}
	}
	for name, listed := range attacks {
		if !listed {
			t.Errorf("the attack %q is in no row", name)
		}
	}
	if rows < 20 {
		t.Errorf("only %d rows were read", rows)
	}
}
