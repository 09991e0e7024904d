package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// WriteText writes r as a table for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	target := ""
	for i := range r.Results {
		res := &r.Results[i]
		if res.Target != target {
			target = res.Target
			if _, err := fmt.Fprintf(t, "%s\n", target); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(t, "  %s\t%s\t%s\n", res.Check, res.Outcome, res.Detail); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d passed, %d failed, %d warned, %d skipped in %s\n",
		r.Count(Passed), r.Count(Failed), r.Count(Warned), r.Count(Skipped), r.Took.Round(time.Millisecond))
	return err
}

// WriteJSON writes r as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		OK bool `json:"ok"`
		*Report
	}{r.OK(), r})
}

// The elements of JUnit's XML, as CI systems read it.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Begun    string      `xml:"timestamp,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string     `xml:"classname,attr"`
		Name    string     `xml:"name,attr"`
		Time    string     `xml:"time,attr"`
		Failure *junitWord `xml:"failure,omitempty"`
		Skipped *junitWord `xml:"skipped,omitempty"`
		Output  string     `xml:"system-out,omitempty"`
	}
	junitWord struct {
		Message string `xml:"message,attr"`
	}
)

// WriteJUnit writes r as JUnit's XML: a suite for each target. A warning is a case
// that was skipped.
func (r *Report) WriteJUnit(w io.Writer) error {
	var doc junitSuites
	for i := range r.Results {
		res := &r.Results[i]
		if n := len(doc.Suites); n == 0 || doc.Suites[n-1].Name != res.Target {
			doc.Suites = append(doc.Suites, junitSuite{Name: res.Target, Begun: r.Begun.UTC().Format("2006-01-02T15:04:05")})
		}
		doc.Suites[len(doc.Suites)-1].add(res)
	}
	for i := range doc.Suites {
		doc.Suites[i].Time = seconds(r.Took)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// add appends a result.
func (s *junitSuite) add(res *Result) {
	c := junitCase{Class: "shirube.verify", Name: res.Check, Time: seconds(res.Took)}
	s.Tests++
	switch res.Outcome {
	case Failed:
		s.Failures++
		c.Failure = &junitWord{res.Detail}
	case Warned, Skipped:
		s.Skipped++
		c.Skipped = &junitWord{res.Detail}
	default:
		c.Output = res.Detail
	}
	s.Cases = append(s.Cases, c)
}

// seconds writes d as JUnit has it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
