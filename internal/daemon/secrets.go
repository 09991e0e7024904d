package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

// pollSecrets is how often a file of secrets is looked at.
const pollSecrets = 30 * time.Second

// maxSecretFile is how long a file of secrets may be, in octets: a few lines,
// and room for comments.
const maxSecretFile = 4096

// secretFile is a file of secrets, and what they are for.
type secretFile[T any] struct {
	file  string
	of    string                          // whose they are, for people
	parse func(io.Reader) (T, error)      // its error does not show them
	use   func(T) (changed bool, _ error) // takes them up
}

// read returns the secrets in the file.
func (f *secretFile[T]) read() (secrets T, err error) {
	r, err := os.Open(f.file)
	if err != nil {
		return secrets, fmt.Errorf("secret_file: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	if secrets, err = f.parse(r); err != nil {
		return secrets, fmt.Errorf("secret_file: %s: %w", f.file, err)
	}
	return secrets, nil
}

// follow has the secrets taken up when the file has changed, until ctx ends.
// While it is bad, those that were good stay, and log is told once.
func (f *secretFile[T]) follow(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(pollSecrets)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed := false
		secrets, err := f.read() // a short file: no need to look whether it has changed
		if err == nil {
			changed, err = f.use(secrets)
		}
		switch {
		case err == nil:
			if told = ""; changed {
				log.Info("secrets have changed", "of", f.of, "file", f.file)
			}
		case err.Error() != told:
			told = err.Error()
			log.Warn("cannot read a file of secrets; going on with those before", "of", f.of, "error", err)
		}
	}
}

// eachSecret hands each line that r has, but for empty ones and comments, to
// take, whose error is wrapped with the number of the line.
func eachSecret(r io.Reader, take func(line string) error) error {
	text, err := io.ReadAll(io.LimitReader(r, maxSecretFile+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxSecretFile:
		return fmt.Errorf("longer than %d octets", maxSecretFile)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := take(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// parseSecret reads a secret of so many octets in hexadecimal digits.
func parseSecret(digits string, octets int) ([]byte, error) {
	secret, err := hex.DecodeString(strings.TrimSpace(digits))
	if err != nil || len(secret) != octets {
		return nil, fmt.Errorf("found %d characters; expected %d hexadecimal digits", len(digits), 2*octets)
	}
	return secret, nil
}
