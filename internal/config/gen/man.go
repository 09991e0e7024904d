package main

import (
	"shirube/internal/config"
	"shirube/internal/roff"
)

// manual returns the manual page of a file, docs/man/shirube.yaml.5 of the server's:
// the reference for who has no browser.
func (m *subject) manual(docs texts) ([]byte, error) {
	p := roff.New(m.name, 5, m.summary)
	p.Section("Description")
	p.Markdown(m.intro)
	p.Section("Keys")
	keys := m.keys
	for i := range keys {
		if err := manualKey(p, &keys[i], docs); err != nil {
			return nil, err
		}
	}
	p.Section("Files")
	p.Item("`"+m.file+"`", "the file that the service reads")
	p.Section("See also")
	p.Paragraph(m.seeAlso)
	return []byte(p.String()), nil
}

// manualKey adds what there is to say of a key, and of those in it.
func manualKey(p *roff.Page, k *config.Key, docs texts) error {
	text, err := docs.of(k)
	if err != nil {
		return err
	}
	p.Subsection(k.Path)
	p.Paragraph(text)
	if k.Kind != config.KindSection {
		p.Lines(manualFacts(k)...)
	}
	keys := k.Keys
	if k.Element != nil {
		keys = k.Element.Keys
	}
	for i := range keys {
		if err := manualKey(p, &keys[i], docs); err != nil {
			return err
		}
	}
	return nil
}

// manualFacts returns the lines below the text of a key.
func manualFacts(k *config.Key) []string {
	lines := []string{"Type: " + typeOf(k)}
	if len(k.Values) > 0 {
		lines = append(lines, "Values: "+code(k.Values))
	}
	if k.Required {
		lines = append(lines, "Required")
	} else {
		lines = append(lines, "Default: `"+k.Default+"`")
	}
	if k.Restart {
		lines = append(lines, "Change: needs a restart")
	}
	return lines
}
