package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"shirube/internal/config"
)

// validator is as much of JSON schema as ours uses; a keyword that it does not
// know is a fault.
type validator struct{ faults []string }

func (v *validator) fault(path, format string, args ...any) {
	v.faults = append(v.faults, path+": "+fmt.Sprintf(format, args...))
}

// check holds a value, decoded from JSON, against a schema.
func (v *validator) check(schema map[string]any, value any, path string) {
	for keyword, rule := range schema {
		switch keyword {
		case "$schema", "title", "description", "default":
		case "type":
			if !slices.ContainsFunc(list(rule), func(t any) bool { return hasType(value, t.(string)) }) {
				v.fault(path, "is not of type %v", rule)
			}
		case "enum":
			if !slices.Contains(rule.([]any), value) {
				v.fault(path, "is none of %v", rule)
			}
		case "const":
			if value != rule {
				v.fault(path, "is not %v", rule)
			}
		case "anyOf":
			if !slices.ContainsFunc(list(rule), func(s any) bool {
				branch := new(validator)
				branch.check(s.(map[string]any), value, path)
				return len(branch.faults) == 0
			}) {
				v.fault(path, "is nothing of anyOf")
			}
		default:
			v.checkKind(schema, keyword, rule, value, path)
		}
	}
}

// checkKind handles the keywords that are for one kind of value.
func (v *validator) checkKind(schema map[string]any, keyword string, rule, value any, path string) {
	text, _ := value.(string)
	number, isNumber := value.(float64)
	elements, _ := value.([]any)
	members, isObject := value.(map[string]any)
	bad := false
	switch keyword {
	case "pattern":
		_, isText := value.(string)
		bad = isText && !regexp.MustCompile(rule.(string)).MatchString(text)
	case "minimum":
		bad = isNumber && number < rule.(float64)
	case "maximum":
		bad = isNumber && number > rule.(float64)
	case "minItems":
		bad = elements != nil && float64(len(elements)) < rule.(float64)
	case "maxItems":
		bad = float64(len(elements)) > rule.(float64)
	case "uniqueItems":
		for i, e := range elements {
			bad = bad || slices.ContainsFunc(elements[:i], func(f any) bool { return reflect.DeepEqual(e, f) })
		}
	case "items":
		for i, e := range elements {
			v.check(rule.(map[string]any), e, fmt.Sprintf("%s[%d]", path, i))
		}
	case "required":
		for _, name := range list(rule) {
			if _, ok := members[name.(string)]; isObject && !ok {
				v.fault(path, "has no %v", name)
			}
		}
	case "properties":
		for name, sub := range rule.(map[string]any) {
			if m, ok := members[name]; ok {
				v.check(sub.(map[string]any), m, path+"."+name)
			}
		}
	case "additionalProperties":
		known := schema["properties"].(map[string]any)
		for name := range members {
			if _, ok := known[name]; !ok {
				v.fault(path, "has the unknown key %s", name)
			}
		}
	default:
		v.fault(path, "the test does not know the keyword %s", keyword)
	}
	if bad {
		v.fault(path, "%v breaks %s %v", value, keyword, rule)
	}
}

// list returns rule as a list.
func list(rule any) []any {
	if l, ok := rule.([]any); ok {
		return l
	}
	return []any{rule}
}

func hasType(value any, name string) bool {
	switch value := value.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "integer" && value == float64(int64(value))
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}

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
	v := new(validator)
	v.check(schema, value, "")
	return v.faults
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
		"shared-cache", "shared-cache-empty",
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
