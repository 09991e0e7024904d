package main

import (
	"bytes"
	"encoding/json"
	"math"

	"go.yaml.in/yaml/v3"

	"shirube/internal/config"
)

// object is a JSON object. encoding/json sorts its keys, so that equal types
// make equal files.
type object map[string]any

// schema returns the JSON schema of the configuration file.
func schema(docs texts) ([]byte, error) {
	root, err := sectionSchema(config.Keys(), docs)
	if err != nil {
		return nil, err
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Configuration of Shirube"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err = e.Encode(root)
	return b.Bytes(), err
}

// sectionSchema returns the schema of a section. One without keys is null in
// YAML, and good.
func sectionSchema(keys []config.Key, docs texts) (object, error) {
	properties := object{}
	var required []string
	for i := range keys {
		k := &keys[i]
		s, err := keySchema(k, docs)
		if err != nil {
			return nil, err
		}
		properties[k.Name] = s
		if k.Required {
			required = append(required, k.Name)
		}
	}
	s := object{
		"type":                 []string{"object", "null"},
		"additionalProperties": false,
		"properties":           properties,
	}
	if required != nil {
		s["type"], s["required"] = "object", required
	}
	return s, nil
}

// keySchema returns the schema of a key's value, with its text and default.
func keySchema(k *config.Key, docs texts) (object, error) {
	s, err := valueSchema(k, docs)
	if err != nil {
		return nil, err
	}
	s["description"], err = docs.of(k)
	if err != nil {
		return nil, err
	}
	if measured(k) {
		s["description"] = s["description"].(string) + "\n\n" + sentence(typeOf(k))
	}
	if k.Default != "" {
		var v any
		if err := yaml.Unmarshal([]byte(k.Default), &v); err != nil {
			return nil, err
		}
		s["default"] = v
	}
	return s, nil
}

// measured tells whether k is a number that is text to the schema, which
// cannot say its range but in words.
func measured(k *config.Key) bool {
	return k.Kind == config.KindDuration || k.Kind == config.KindSize
}

// valueSchema returns the schema of a value.
func valueSchema(k *config.Key, docs texts) (object, error) {
	switch k.Kind {
	case config.KindSection:
		return sectionSchema(k.Keys, docs)
	case config.KindList:
		return listSchema(k, docs)
	case config.KindBool:
		return object{"type": "boolean"}, nil
	case config.KindInteger:
		return integerSchema(k), nil
	case config.KindDuration:
		text := object{"type": "string", "pattern": config.DurationPattern}
		if k.Min > 0 {
			return text, nil
		}
		return object{"anyOf": []object{text, {"const": 0}}}, nil
	case config.KindSize:
		forms := []object{{"type": "string", "pattern": config.SizePattern}, integerSchema(k)}
		if k.Auto {
			forms = append(forms, object{"const": config.Auto.String()})
		}
		return object{"anyOf": forms}, nil
	case config.KindEnum:
		return object{"type": "string", "enum": k.Values}, nil
	case config.KindPrefix:
		return object{"type": "string", "pattern": `^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$`}, nil
	case config.KindAddrPort:
		return object{"type": "string", "pattern": `^([0-9.]+|\[[^\[\]]+\]):[0-9]{1,5}$`}, nil
	case config.KindAddress:
		return object{"type": "string", "pattern": `^([0-9A-Fa-f.:]+|\[[0-9A-Fa-f.:]+\]:[0-9]{1,5})$`}, nil
	case config.KindDate, config.KindOverride:
		return object{"type": []string{"string", "integer"}}, nil
	case config.KindSecret:
		secret := object{"type": "string", "pattern": `^[0-9A-Fa-f]{32}$`}
		if k.Default == `""` { // there need not be one
			return object{"anyOf": []object{secret, {"const": ""}}}, nil
		}
		return secret, nil
	case config.KindPin:
		return object{"type": "string", "pattern": `^[A-Za-z0-9+/]{43}=$`}, nil
	}
	return object{"type": "string"}, nil
}

// integerSchema returns the schema of a number in the range of k.
func integerSchema(k *config.Key) object {
	s := object{"type": "integer", "minimum": k.Min}
	if k.Max != math.MaxInt64 {
		s["maximum"] = k.Max
	}
	return s
}

// listSchema returns the schema of a list.
func listSchema(k *config.Key, docs texts) (object, error) {
	items, err := valueSchema(k.Element, docs)
	s := object{"type": "array", "items": items}
	if k.Min > 0 {
		s["minItems"] = k.Min
	}
	if k.Max != math.MaxInt64 {
		s["maxItems"] = k.Max
	}
	if k.Element.Kind != config.KindSection {
		s["uniqueItems"] = true
	}
	return s, err
}
