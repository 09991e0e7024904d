// Package jsonschema holds values against schemas, for tests: as much of JSON
// schema as our configuration's has, and those of Kubernetes.
package jsonschema

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Faults returns what is wrong with a value, decoded from JSON, by a schema. What
// `$ref` names is in the schema's own `definitions`.
func Faults(schema map[string]any, value any) []string {
	v := new(validator)
	v.definitions, _ = schema["definitions"].(map[string]any)
	v.check(schema, value, "")
	return v.faults
}

// validator collects faults. A keyword that it does not know is one.
type validator struct {
	faults      []string
	definitions map[string]any
}

func (v *validator) fault(path, format string, args ...any) {
	v.faults = append(v.faults, path+": "+fmt.Sprintf(format, args...))
}

// check holds a value, decoded from JSON, against a schema.
func (v *validator) check(schema map[string]any, value any, path string) {
	for keyword, rule := range schema {
		switch keyword {
		case "$schema", "title", "description", "default", "definitions":
		case "$ref":
			v.refer(rule.(string), value, path)
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
				branch := &validator{definitions: v.definitions}
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

// refer holds a value against a definition.
func (v *validator) refer(ref string, value any, path string) {
	sub, ok := v.definitions[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
	if !ok {
		v.fault(path, "the schema has no %s", ref)
		return
	}
	v.check(sub, value, path)
}

// checkKind handles the keywords that are for one kind of value.
func (v *validator) checkKind(schema map[string]any, keyword string, rule, value any, path string) {
	text, isText := value.(string)
	number, isNumber := value.(float64)
	elements, _ := value.([]any)
	bad := false
	switch keyword {
	case "pattern":
		bad = isText && !regexp.MustCompile(rule.(string)).MatchString(text)
	case "minimum":
		bad = isNumber && number < rule.(float64)
	case "maximum":
		bad = isNumber && number > rule.(float64)
	case "minLength":
		bad = isText && float64(len(text)) < rule.(float64)
	case "maxLength":
		bad = float64(len(text)) > rule.(float64)
	case "minItems":
		bad = elements != nil && float64(len(elements)) < rule.(float64)
	case "maxItems":
		bad = float64(len(elements)) > rule.(float64)
	case "uniqueItems":
		for i, e := range elements {
			bad = bad || slices.ContainsFunc(elements[:i], func(f any) bool { return reflect.DeepEqual(e, f) })
		}
	default:
		v.checkParts(schema, keyword, rule, value, path)
	}
	if bad {
		v.fault(path, "%v breaks %s %v", value, keyword, rule)
	}
}

// checkParts handles the keywords that are about the parts of a value.
func (v *validator) checkParts(schema map[string]any, keyword string, rule, value any, path string) {
	elements, _ := value.([]any)
	members, isObject := value.(map[string]any)
	switch keyword {
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
		known, _ := schema["properties"].(map[string]any)
		for name, m := range members {
			if _, ok := known[name]; ok {
				continue
			}
			if sub, ok := rule.(map[string]any); ok {
				v.check(sub, m, path+"."+name)
			} else if rule == false {
				v.fault(path, "has the unknown key %s", name)
			}
		}
	default:
		v.fault(path, "the test does not know the keyword %s", keyword)
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
		return name == "number" || name == "integer" && value == float64(int64(value))
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}
