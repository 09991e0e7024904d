package config

import (
	"reflect"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestParseReadsTheSectionOfValidation(t *testing.T) {
	got, err := Parse("f", []byte(`dnssec:
  root_trust_anchor: false
  trust_anchors:
    - "corp.example. IN DS 12345 13 2 abababababababababababababababababababababababababababababababab"
  trust_anchor_files: [/var/lib/unbound/root.key]
  state_directory: /var/lib/shirube
  negative_trust_anchors:
    - {name: a.example, until: 2026-12-31T23:59:59Z, reason: they lost their key}
    - {name: b.example, for: 7d}
  override_time: 20070916134226
  max_nsec3_iterations: 0
  disabled_algorithms: [RSASHA1, RSASHA1-NSEC3-SHA1]
  disabled_ds_digests: [SHA-1]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := with(func(c *Config) {
		d := &c.DNSSEC
		d.RootTrustAnchor = false
		d.TrustAnchors = []TrustAnchor{"corp.example. IN DS 12345 13 2 abababababababababababababababababababababababababababababababab"}
		d.TrustAnchorFiles = []string{"/var/lib/unbound/root.key"}
		d.StateDirectory = "/var/lib/shirube"
		d.NegativeTrustAnchors = []NegativeTrustAnchor{
			{Name: wire.MustParseName("a.example"), Until: "2026-12-31T23:59:59Z", Reason: "they lost their key"},
			{Name: wire.MustParseName("b.example"), For: 7 * 24 * time.Hour},
		}
		d.OverrideTime = "20070916134226"
		d.MaxNSEC3Iterations = 0
		d.DisabledAlgorithms = []Algorithm{"RSASHA1", "RSASHA1-NSEC3-SHA1"}
		d.DisabledDSDigests = []Digest{"SHA-1"}
	})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got.DNSSEC, want.DNSSEC)
	}
}

func TestTimesAreReadInThreeWays(t *testing.T) {
	want := time.Date(2007, 9, 16, 13, 42, 26, 0, time.UTC)
	for _, text := range []string{"2007-09-16T13:42:26Z", "2007-09-16T15:42:26+02:00", "20070916134226", "1189950146"} {
		if got, ok := Date(text).Time(); !ok || !got.Equal(want) {
			t.Errorf("%s: got %v, %v", text, got, ok)
		}
		if got, ok := Override(text).Time(); !ok || !got.Equal(want) || Override(text).Ignore() {
			t.Errorf("%s: got %v, %v", text, got, ok)
		}
		if _, err := Parse("f", []byte("dnssec:\n  override_time: "+text+"\n")); err != nil {
			t.Error(err)
		}
	}
	if _, err := Parse("f", []byte("dnssec:\n  override_time: -1\n")); err != nil || !Override("-1").Ignore() {
		t.Errorf("-1: %v", err)
	}
	for _, text := range []string{"", "-1", "2007-09-16", "20070916", "99999999999", "20071316134226"} {
		if got, ok := Date(text).Time(); ok && text != "20070916" { // which is in 1970
			t.Errorf("%s: got %v", text, got)
		}
	}
}

// TestEveryMnemonicHasANumber holds them to the IANA registries by the longest
// way round: each has its own, and none is 0.
func TestEveryMnemonicHasANumber(t *testing.T) {
	seen := map[uint8]string{}
	for _, name := range Algorithm("").values() {
		n := Algorithm(name).Number()
		if other, again := seen[n]; n == 0 || again {
			t.Errorf("%s is %d, as %s", name, n, other)
		}
		seen[n] = name
	}
	clear(seen)
	for _, name := range Digest("").values() {
		n := Digest(name).Number()
		if other, again := seen[n]; n == 0 || again {
			t.Errorf("%s is %d, as %s", name, n, other)
		}
		seen[n] = name
	}
}
