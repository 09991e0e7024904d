package jsonschema_test

import (
	"encoding/json"
	"slices"
	"testing"

	"shirube/internal/jsonschema"
)

func TestFaultsOfEachKeyword(t *testing.T) {
	for _, c := range []struct {
		schema, value string
		want          []string
	}{
		{`{"$ref":"#/definitions/a","definitions":{"a":{"type":"string"}}}`, `"x"`, nil},
		{`{"$ref":"#/definitions/a","definitions":{"a":{"type":"string"}}}`, `1`, []string{": is not of type string"}},
		{`{"$ref":"#/definitions/a"}`, `1`, []string{": the schema has no #/definitions/a"}},
		{`{"properties":{"a":{}},"additionalProperties":false}`, `{"a":1,"b":2}`, []string{": has the unknown key b"}},
		{`{"additionalProperties":{"type":"string"}}`, `{"a":1}`, []string{".a: is not of type string"}},
		{`{"additionalProperties":true}`, `{"a":1}`, nil},
		{`{"properties":{"a":{"items":{"minimum":2}}}}`, `{"a":[2,1]}`, []string{".a[1]: 1 breaks minimum 2"}},
		{`{"type":"number"}`, `1.5`, nil},
		{`{"required":["a"]}`, `{}`, []string{": has no a"}},
		{`{"enum":["a","b"]}`, `"c"`, []string{": is none of [a b]"}},
		{`{"anyOf":[{"type":"string"},{"type":"integer"}]}`, `1.5`, []string{": is nothing of anyOf"}},
		{`{"minLength":2}`, `"a"`, []string{": a breaks minLength 2"}},
		{`{"maxLength":2}`, `"abc"`, []string{": abc breaks maxLength 2"}},
		{`{"pattern":"^a$"}`, `"b"`, []string{": b breaks pattern ^a$"}},
		{`{"frobnicate":1}`, `1`, []string{": the test does not know the keyword frobnicate"}},
	} {
		var schema map[string]any
		var value any
		if err := json.Unmarshal([]byte(c.schema), &schema); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.value), &value); err != nil {
			t.Fatal(err)
		}
		if got := jsonschema.Faults(schema, value); !slices.Equal(got, c.want) {
			t.Errorf("%s of %s: got %q, want %q", c.value, c.schema, got, c.want)
		}
	}
}
