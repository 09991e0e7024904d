package config

import _ "embed"

// schema is what gen made of the types.
//
//go:embed schema.json
var schema string

// Schema returns the JSON schema (draft 2020-12) of a configuration file. It
// is the text of docs/shirube.schema.json.
func Schema() string { return schema }
