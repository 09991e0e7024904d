package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"

	"shirube/internal/config"
)

// texts holds doc comments: of a field by `Type.Field`, of a type by `Type`.
type texts map[string]string

// of returns the text of a key.
func (t texts) of(k *config.Key) (string, error) {
	name := k.Struct + "." + k.Field
	if t[name] == "" {
		return "", fmt.Errorf("%s: the field %s has no doc comment", k.Path, name)
	}
	return t[name], nil
}

// readTexts reads the doc comments of the types in the Go files of dir.
func readTexts(dir string) (texts, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	t := texts{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				t.addType(spec)
			}
			return true
		})
	}
	return t, nil
}

// addType takes the doc comments of the fields of a struct.
func (t texts) addType(spec *ast.TypeSpec) {
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range structure.Fields.List {
		for _, name := range field.Names {
			t[spec.Name.Name+"."+name.Name] = paragraph(field.Doc)
		}
	}
}

// paragraph returns a comment as one line.
func paragraph(c *ast.CommentGroup) string {
	return strings.Join(strings.Fields(c.Text()), " ")
}
