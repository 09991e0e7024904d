package config

import (
	"encoding/hex"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Cookies configures the cookies that clients are given.
type Cookies struct {
	// Give a cookie to each client that has one of its own (RFC 7873, RFC 9018).
	// It then takes no answer from anybody else, and shows with its next query
	// that it is where it says it is. On by default, as in BIND: nobody is turned
	// away for want of a cookie, but by the action `allow_cookie` of
	// `access_control`.
	Enabled bool `yaml:"enabled"`
	// The secrets that cookies are made with, of 32 hexadecimal digits each, as
	// `openssl rand -hex 16` prints them. The first makes cookies; both are good
	// to check them, so that one can follow the other. All servers behind one
	// address need the same. Empty, and without `secret_file`: a random one,
	// which is this process's alone.
	Secrets []Secret `yaml:"secrets" range:"0..2"`
	// A file with the secrets, one on each line, in place of `secrets`. Empty
	// lines and those that begin with `#` do not count. It is read again within
	// half a minute when it has changed. A relative path starts at the directory
	// that the server was started in.
	SecretFile string `yaml:"secret_file"`
}

// secretLen is how long a secret is, in octets (RFC 9018 §4.4).
const secretLen = 16

// Secret is a secret in hexadecimal digits.
type Secret string

// Octets returns the secret itself.
func (s Secret) Octets() []byte {
	octets, err := hex.DecodeString(string(s))
	if err != nil {
		return nil // it was checked when it was read
	}
	return octets
}

// setSecret takes a secret. What is wrong with one is said without showing it.
func (k *Key) setSecret(dst reflect.Value, n *yaml.Node) *fault {
	octets, err := hex.DecodeString(n.Value)
	switch {
	case n.Value == "" && !k.Required: // there is none
		dst.SetString("")
		return nil
	case n.Style == 0 && n.Tag != "!!str":
		return faultf("found something that is not text to YAML; expected %s, in quotes", k.expects())
	case err != nil:
		return faultf("found %d characters that are not all hexadecimal digits, or not in pairs; expected %s", len(n.Value), k.expects())
	case len(octets) != secretLen:
		return faultf("found %d hexadecimal digits; expected %s", len(n.Value), k.expects())
	}
	dst.SetString(n.Value)
	return nil
}

// cookies reports what makes no sense about cookies.
func (d *decoder) cookies(cfg *Config) {
	c := &cfg.Cookies
	if len(c.Secrets) > 0 && c.SecretFile != "" {
		d.contradiction("found both secrets and secret_file; expected one of them", "cookies.secrets", "cookies.secret_file")
	}
	if c.Enabled {
		return
	}
	for i, r := range cfg.AccessControl {
		if r.Action == ActionAllowCookie {
			d.contradiction("found allow_cookie, and false for cookies.enabled; nobody could have a cookie then",
				fmt.Sprintf("access_control[%d].action", i), "cookies.enabled")
		}
	}
}
