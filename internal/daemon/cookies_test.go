package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/config"
	"shirube/internal/wire"
	"shirube/policy"
)

const (
	oneSecret     = "000102030405060708090a0b0c0d0e0f"
	anotherSecret = "101112131415161718191a1b1c1d1e1f"
)

func TestSecretsAreReadFromTheirFile(t *testing.T) {
	for text, want := range map[string]string{
		oneSecret:                                 "1",
		oneSecret + "\n" + anotherSecret + "\n":   "2",
		"# a comment\n\n  " + oneSecret + "\r\n":  "1",
		strings.ToUpper(oneSecret):                "1",
		"":                                        "found 0 secrets; expected 1 to 2",
		"# only\n":                                "found 0 secrets; expected 1 to 2",
		strings.Repeat(oneSecret+"\n", 3):         "found 3 secrets; expected 1 to 2",
		"\n" + oneSecret[1:]:                      "line 2: found 31 characters; expected 32 hexadecimal digits",
		oneSecret + "00":                          "line 1: found 34 characters; expected 32 hexadecimal digits",
		oneSecret + " " + anotherSecret:           "line 1: found 65 characters; expected 32 hexadecimal digits",
		strings.Repeat("#", maxSecretFile+1):      "longer than 4096 octets",
		oneSecret + strings.Repeat("\n", 4096-32): "1",
	} {
		secrets, err := parseSecrets(strings.NewReader(text))
		got := string(rune('0' + len(secrets)))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.80q: %s, want %s", text, got, want)
		}
		if err != nil && strings.Contains(err.Error(), oneSecret[4:20]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestCookiesAreMadeWithTheConfiguredSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(file, []byte(oneSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	var made [][]byte
	for _, cfg := range []config.Cookies{
		{Enabled: true, Secrets: []config.Secret{oneSecret}}, {Enabled: true, SecretFile: file}, {Enabled: true},
	} {
		c, err := newCookies(cfg)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, c.Append(nil, []byte("client's"), client, now))
	}
	if !bytes.Equal(made[0], made[1]) || bytes.Equal(made[0], made[2]) {
		t.Errorf("made %x", made)
	}
	if c, err := newCookies(config.Cookies{}); c != nil || err != nil {
		t.Errorf("when off: %v, %v", c, err)
	}
	if _, err := newCookies(config.Cookies{Enabled: true, SecretFile: file + "x"}); err == nil || !strings.Contains(err.Error(), "secret_file: open "+file+"x") {
		t.Errorf("without the file: %v", err)
	}
}

func TestSecretsFollowTheirFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		write(oneSecret)
		c, err := newCookies(config.Cookies{Enabled: true, SecretFile: file})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { // ends with ctx
			cookieSecrets(file, c).follow(ctx, slog.New(slog.NewTextHandler(&log, nil)))
			close(done)
		}()
		client, now := netip.MustParseAddr("192.0.2.1"), time.Now()
		old := c.Append(nil, []byte("client's"), client, now)
		for _, stage := range []struct {
			text string
			want wire.Cookie
		}{
			{oneSecret, wire.CookieValid},
			{"", wire.CookieValid}, // half-written: what was good stays
			{"", wire.CookieValid},
			{anotherSecret + "\n" + oneSecret, wire.CookieOld},
			{anotherSecret, wire.CookieUnproven},
		} {
			write(stage.text)
			time.Sleep(pollSecrets)
			synctest.Wait()
			if got := c.Judge(old, client, now); got != stage.want {
				t.Errorf("with %.80q the cookie is judged %d, want %d", stage.text, got, stage.want)
			}
		}
		cancel()
		<-done
		if warned, changed := strings.Count(log.String(), "level=WARN"), strings.Count(log.String(), "have changed"); warned != 1 || changed != 2 {
			t.Errorf("told %d times of trouble, %d times of a change:\n%s", warned, changed, &log)
		}
		if strings.Contains(log.String(), oneSecret[4:20]) || strings.Contains(log.String(), anotherSecret[4:20]) {
			t.Errorf("the log shows a secret:\n%s", &log)
		}
	})
}

func TestActionsOfTheConfigurationAreThoseOfPolicy(t *testing.T) {
	for _, action := range []config.Action{config.ActionAllow, config.ActionAllowSnoop, config.ActionAllowCookie, config.ActionRefuse, config.ActionDeny} {
		rules := accessRules([]config.AccessRule{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Action: action}})
		set, err := policy.New(policy.Options{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Admit(netip.MustParseAddr("192.0.2.1")); got.String() != string(action) {
			t.Errorf("%s is %v", action, got)
		}
	}
}
