package daemon

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"shirube/internal/config"
	"shirube/policy"
)

// pollSecrets is how often the file of secrets is looked at.
const pollSecrets = 30 * time.Second

// maxSecretFile is how long the file of secrets may be, in octets: two lines,
// and room for comments.
const maxSecretFile = 4096

// newCookies returns what makes the cookies of clients; nil for none.
func newCookies(cfg config.Cookies) (*policy.Cookies, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	var secrets [][]byte
	for _, s := range cfg.Secrets {
		secrets = append(secrets, s.Octets())
	}
	if cfg.SecretFile != "" {
		var err error
		if secrets, err = readSecrets(cfg.SecretFile); err != nil {
			return nil, err
		}
	}
	return policy.NewCookies(secrets)
}

// readSecrets returns the secrets in file. Its error does not show them.
func readSecrets(file string) ([][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	secrets, err := parseSecrets(f)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %s: %w", file, err)
	}
	return secrets, nil
}

// parseSecrets reads the secrets of a file.
func parseSecrets(r io.Reader) ([][]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSecretFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxSecretFile:
		return nil, fmt.Errorf("longer than %d octets", maxSecretFile)
	}
	var secrets [][]byte
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		secret, err := hex.DecodeString(line)
		if err != nil || len(secret) != policy.SecretLen {
			return nil, fmt.Errorf("line %d: found %d characters; expected %d hexadecimal digits", n, len(line), 2*policy.SecretLen)
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 || len(secrets) > policy.MaxSecrets {
		return nil, fmt.Errorf("found %d secrets; expected 1 to %d", len(secrets), policy.MaxSecrets)
	}
	return secrets, lines.Err()
}

// followSecrets has cookies take up the secrets in file when it has changed, until
// ctx ends. While the file is bad, those that were good stay, and log is told
// once.
func followSecrets(ctx context.Context, cookies *policy.Cookies, file string, log *slog.Logger) {
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
		secrets, err := readSecrets(file) // a short file: no need to look whether it has changed
		if err == nil {
			changed, err = cookies.Replace(secrets)
		}
		switch {
		case err == nil:
			told = ""
			if changed {
				log.Info("the secrets for cookies have changed", "file", file)
			}
		case err.Error() != told:
			told = err.Error()
			log.Warn("cannot read the secrets for cookies; going on with those before", "error", err)
		}
	}
}
