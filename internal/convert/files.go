package convert

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The bounds of what is read.
const (
	maxFile    = 4 << 20 // octets of one file
	maxFiles   = 1000    // files that are included
	maxDepth   = 16      // of includes in includes
	maxOptions = 500_000 // options of all files
)

// files reads a file and those that it includes.
type files struct{ n int }

// read returns the text of a file that is included in so many others.
func (r *files) read(path string, depth int) (string, error) {
	if r.n++; r.n > maxFiles || depth > maxDepth {
		return "", fmt.Errorf("%s: found more than %d files, or includes in includes %d deep", path, maxFiles, maxDepth)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("%s: found more than %d octets", path, maxFile)
	}
	return string(text), nil
}

// matching returns the files that a pattern of an option names, relative to a
// directory. One without wildcards has to be there.
func matching(from Source, option, pattern, dir string) ([]string, error) {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(dir, pattern)
	}
	paths, err := filepath.Glob(pattern)
	if err == nil && len(paths) == 0 && !strings.ContainsAny(pattern, "*?[") {
		err = errors.New("there is no such file")
	}
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %s %s: %w", from.File, from.Line, option, pattern, err)
	}
	return paths, nil
}
