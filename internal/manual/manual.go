// Package manual reads what the manual tells people to type, so that tests can type
// it.
package manual

import (
	"fmt"
	"os"
	"strings"
)

// Commands returns the lines of the shell blocks below a heading of a page, without
// what is a comment.
func Commands(page, heading string) (commands []string, err error) {
	blocks, err := Blocks(page, heading, "sh")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(strings.Join(blocks, "")) {
		command, _, _ := strings.Cut(line, " #")
		if command = strings.TrimSpace(command); command != "" {
			commands = append(commands, command)
		}
	}
	return commands, nil
}

// Blocks returns the fenced blocks of a language below a heading of a page, up to
// the next one that is not below it, without their indentation; those of the whole
// page if heading is empty. To find none is an error.
func Blocks(page, heading, language string) (blocks []string, err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	blocks, found := blocksOf(string(text), heading, language)
	switch {
	case !found:
		return nil, fmt.Errorf("%s: no heading %q", page, heading)
	case len(blocks) == 0:
		return nil, fmt.Errorf("%s: %q has no blocks of %s", page, heading, language)
	}
	return blocks, nil
}

// blocksOf is [Blocks] of a text. It reports whether the heading was found.
func blocksOf(text, heading, language string) (blocks []string, found bool) {
	level, found := 0, heading == ""
	inside, fence := found, "" // of the section; what the block began with
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		switch {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			if fence = indent + trimmed; inside && trimmed == "```"+language {
				blocks = append(blocks, "")
			}
		case trimmed == "```":
			fence = ""
		case fence != "":
			if before, ok := strings.CutSuffix(fence, "```"+language); inside && ok {
				blocks[len(blocks)-1] += strings.TrimPrefix(line, before)
			}
		case strings.HasPrefix(line, "#") && heading != "":
			marks, name, _ := strings.Cut(trimmed, " ")
			if name == heading {
				inside, found, level = true, true, len(marks)
			} else if len(marks) <= level {
				inside = false
			}
		}
	}
	return blocks, found
}
