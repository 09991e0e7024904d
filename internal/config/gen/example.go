package main

import (
	"fmt"
	"strings"

	"shirube/internal/config"
)

// example returns a file with keys at their defaults, each under its text.
func example(keys []config.Key, docs texts) (string, error) {
	var b strings.Builder
	for i := range keys {
		if i > 0 {
			b.WriteByte('\n')
		}
		if err := exampleKey(&b, &keys[i], "", docs); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// exampleKey appends a key and what it holds.
func exampleKey(b *strings.Builder, k *config.Key, indent string, docs texts) error {
	text, err := docs.of(k)
	if err != nil {
		return err
	}
	for _, line := range wrap(text, 76-len(indent)) {
		fmt.Fprintf(b, "%s# %s\n", indent, line)
	}
	switch {
	case k.Kind == config.KindSection:
		fmt.Fprintf(b, "%s%s:\n", indent, k.Name)
		for i := range k.Keys {
			if err := exampleKey(b, &k.Keys[i], indent+"  ", docs); err != nil {
				return err
			}
		}
	case k.Kind == config.KindList && k.Element.Kind == config.KindSection && len(k.Defaults) > 0:
		fmt.Fprintf(b, "%s%s:\n", indent, k.Name)
		for _, element := range k.Defaults {
			fmt.Fprintf(b, "%s  - %s\n", indent, element)
		}
	default:
		fmt.Fprintf(b, "%s%s: %s\n", indent, k.Name, k.Default)
	}
	return nil
}

// wrap breaks text into lines of at most width characters, where words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line+" "+word)) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
