package main

import (
	"fmt"
	"strings"

	"shirube/internal/config"
)

// reference returns the reference of a file, docs/configuration.md of the server's.
func (m *subject) reference(docs texts) ([]byte, error) {
	var b strings.Builder
	b.WriteString(m.intro)
	b.WriteString("\n## Keys\n\n")
	keys := m.keys
	for i := range keys {
		fmt.Fprintf(&b, "- [`%s`](#%s)", keys[i].Name, anchor(keys[i].Path))
		text, err := docs.of(&keys[i])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, ": %s\n", text)
	}
	for i := range keys {
		if err := referenceKey(&b, &keys[i], "##", docs); err != nil {
			return nil, err
		}
	}
	if m.example == "" {
		return []byte(b.String()), nil
	}
	text, err := example(keys, docs)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "\n## A file with all defaults\n\n%s\n\n```yaml\n%s```\n", m.example, text)
	return []byte(b.String()), nil
}

// referenceKey appends what there is to say of a key, and of those in it.
func referenceKey(b *strings.Builder, k *config.Key, heading string, docs texts) error {
	text, err := docs.of(k)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n%s `%s`\n\n%s\n", heading, k.Path, wrapped(text))
	if k.Kind != config.KindSection {
		fmt.Fprintf(b, "\n- Type: %s\n", typeOf(k))
		if len(k.Values) > 0 {
			fmt.Fprintf(b, "- Values: %s\n", code(k.Values))
		}
		fmt.Fprintf(b, "- Default:%s\n", defaultOf(k))
		if k.Restart {
			fmt.Fprintf(b, "- Change: needs a restart\n")
		}
	}
	keys := k.Keys
	if k.Element != nil {
		keys = k.Element.Keys
	}
	for i := range keys {
		if err := referenceKey(b, &keys[i], "###", docs); err != nil {
			return err
		}
	}
	return nil
}

// typeOf says what a value of k is.
func typeOf(k *config.Key) string {
	switch k.Kind {
	case config.KindSection:
		return "section"
	case config.KindList:
		return listType(k)
	case config.KindBool:
		return "`true` or `false`"
	case config.KindInteger:
		return "whole number " + k.Bounds()
	case config.KindDuration:
		return "duration " + k.Bounds()
	case config.KindSize:
		if k.Auto {
			return "`auto`, or size " + k.Bounds()
		}
		return "size " + k.Bounds()
	case config.KindEnum:
		return "one of the values below"
	case config.KindPrefix:
		return "address prefix"
	case config.KindAddrPort:
		return "IP address and port"
	case config.KindAddress:
		return "IP address, with or without a port"
	case config.KindName:
		return "domain name"
	case config.KindDate, config.KindOverride:
		return "time"
	}
	return "text"
}

func listType(k *config.Key) string {
	text := "list of "
	switch k.Element.Kind {
	case config.KindSection:
		text += "sections"
	case config.KindEnum:
		text += code(k.Element.Values)
	case config.KindName:
		text += "domain names"
	case config.KindPin:
		text += "SHA-256 hashes in base64"
	case config.KindSecret:
		text += "secrets of 32 hexadecimal digits"
	case config.KindAnchor:
		text += "DS and DNSKEY records"
	default:
		text += typeOf(k.Element)
	}
	if k.Min > 0 {
		text += fmt.Sprintf(", at least %d", k.Min)
	}
	return text
}

// defaultOf says, after a colon, what holds when k is not given.
func defaultOf(k *config.Key) string {
	switch {
	case k.Required:
		return " none; it has to be given"
	case k.Element != nil && k.Element.Kind == config.KindSection && len(k.Defaults) > 0:
		return "\n\n  ```yaml\n  " + k.Name + ":\n    - " + strings.Join(k.Defaults, "\n    - ") + "\n  ```"
	}
	return " `" + k.Default + "`"
}

// code lists words as code.
func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

// wrapped breaks text into the lines of a Markdown paragraph.
func wrapped(text string) string { return strings.Join(wrap(text, 100), "\n") }

// anchor returns the fragment that a heading with only path has in Markdown.
func anchor(path string) string { return strings.NewReplacer(".", "", "[]", "").Replace(path) }

// sentence makes a sentence of a phrase.
func sentence(phrase string) string {
	return strings.ToUpper(phrase[:1]) + phrase[1:] + "."
}
