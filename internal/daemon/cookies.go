package daemon

import (
	"fmt"
	"io"

	"shirube/internal/config"
	"shirube/policy"
)

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
		if secrets, err = cookieSecrets(cfg.SecretFile, nil).read(); err != nil {
			return nil, err
		}
	}
	return policy.NewCookies(secrets)
}

// cookieSecrets returns the file of secrets for c, which may be nil to read it
// only.
func cookieSecrets(file string, c *policy.Cookies) *secretFile[[][]byte] {
	return &secretFile[[][]byte]{
		file: file, of: "cookies", parse: parseSecrets,
		use: func(secrets [][]byte) (bool, error) { return c.Replace(secrets) },
	}
}

// parseSecrets reads the secrets of a file.
func parseSecrets(r io.Reader) (secrets [][]byte, err error) {
	err = eachSecret(r, func(line string) error {
		secret, err := parseSecret(line, policy.SecretLen)
		secrets = append(secrets, secret)
		return err
	})
	if err == nil && (len(secrets) == 0 || len(secrets) > policy.MaxSecrets) {
		err = fmt.Errorf("found %d secrets; expected 1 to %d", len(secrets), policy.MaxSecrets)
	}
	if err != nil {
		return nil, err
	}
	return secrets, nil
}
