// Package manual reads the commands that the manual tells people to type, so that
// tests can type them.
package manual

import (
	"fmt"
	"os"
	"strings"
)

// Commands returns the lines of the shell blocks below a heading of a page, up to
// the next heading, without what is a comment.
func Commands(page, heading string) (commands []string, err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		return nil, fmt.Errorf("%s: no heading %q", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	shell := false
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			shell = line == "```sh"
		case shell && line != "":
			command, _, _ := strings.Cut(line, " #")
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	if len(commands) == 0 {
		return nil, fmt.Errorf("%s: %q has no commands", page, heading)
	}
	return commands, nil
}
