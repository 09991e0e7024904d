package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"shirube/internal/config"
	"shirube/internal/jsonschema"
)

// validate holds a YAML text against the schema.
func validate(t *testing.T, text string) []string {
	t.Helper()
	var schema map[string]any
	if err := json.Unmarshal([]byte(config.Schema()), &schema); err != nil {
		t.Fatal(err)
	}
	var decoded, value any
	if err := yaml.Unmarshal([]byte(text), &decoded); err != nil {
		return []string{err.Error()}
	}
	// By way of JSON, so that numbers are the ones that a schema knows.
	encoded, err := json.Marshal(decoded)
	if err != nil {
		return []string{err.Error()}
	}
	if err := json.Unmarshal(encoded, &value); err != nil {
		t.Fatal(err)
	}
	return jsonschema.Faults(schema, value)
}

// TestSchemaRefusesWhatIsBadByItself holds the bad files of package config
// against the schema. It cannot see what several values say together, nor
// what YAML does not keep; those files are named here.
func TestSchemaRefusesWhatIsBadByItself(t *testing.T) {
	unseen := []string{
		"anchor-and-alias", // resolved before
		"tags",
		"two-documents", "second-document-broken", // the first one is good
		"utf16", "line-separator", "carriage-return", // YAML knows them
		"listener-twice", "prefix-with-two-actions", "no-address-family",
		"min-ttl-above-max", "min-ttl-above-default-max", "failure-ttl-min-above-max",
		"more-connections-per-client-than-at-all",
		"text-with-nul",
		"zones-contradictory", "local-root-contradictory", "local-root-of-another-family",
		"stale-answers-too-late", "debug-left-over",
		"cookies-off-and-required", "nsid-both", "nsid-hex", "nsid-long", "tls",
		"admin-for-everybody", "admin-halves", "health-root",
		"shared-cache", "shared-cache-empty", "tracing", "tracing-nothing", "tracing-socket", "tracing-tls",
	}
	files, err := filepath.Glob("../testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		faults := validate(t, string(text))
		if (len(faults) == 0) != slices.Contains(unseen, name) {
			t.Errorf("%s: the schema reports %q", name, faults)
		}
	}
}

func TestSchemaTakesAllSpellings(t *testing.T) {
	for _, text := range []string{
		"cache:\nlog:\n",
		"cache: {min_ttl: 0, max_ttl: 1h30m, answers_size: 1048576, rrsets_size: 1.5GiB}",
		"limits: {drain_timeout: 0, udp_readers: 0}",
		"listen:\n  - {address: \"[fe80::1%eth0]:53\"}\n  - {address: 0.0.0.0:53, protocols: [tcp]}",
		"access_control: []",
		"access_control: [{prefix: \"2001:db8::1\", action: deny}]",
	} {
		if faults := validate(t, text); len(faults) > 0 {
			t.Errorf("%s: %q", text, faults)
		}
		if _, err := config.Parse("f", []byte(text)); err != nil {
			t.Error(err)
		}
	}
}
