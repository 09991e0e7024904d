package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseReadsCookiesAndIdentity(t *testing.T) {
	got, err := Parse("f", []byte(`cookies:
  secrets: ["e5e973e5a6b2a43f48e7dc849e37bfcf", "DD3BDF9344b678b185a6f5cb60fca715"]
identity:
  nsid_hex: "0123456789abcdef"
access_control:
  - {prefix: 192.0.2.0/24, action: allow_cookie}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Cookies; !c.Enabled || c.SecretFile != "" || len(c.Secrets) != 2 || string(c.Secrets[1].Octets()[:3]) != "\xdd\x3b\xdf" || len(c.Secrets[0].Octets()) != 16 {
		t.Errorf("cookies are %+v", c)
	}
	if id := got.Identity; id.NSID != "" || string(id.Octets()) != "\x01\x23\x45\x67\x89\xab\xcd\xef" {
		t.Errorf("the identity is %+v", id)
	}
	if got.AccessControl[0].Action != ActionAllowCookie {
		t.Errorf("access control is %+v", got.AccessControl)
	}
	again, err := Parse("f", []byte(got.YAML()))
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%s is read as %+v, %v", got.YAML(), again, err)
	}
}

func TestIdentityIsTextOrNothing(t *testing.T) {
	for text, want := range map[string]string{
		"{}": "", "{nsid: tokyo-1}": "tokyo-1", "{nsid: 東京}": "東京", `{nsid: "0123"}`: "0123", `{nsid: ""}`: "", `{nsid: ` + strings.Repeat("x", 128) + "}": strings.Repeat("x", 128),
	} {
		got, err := Parse("f", []byte("identity: "+text))
		if err != nil || string(got.Identity.Octets()) != want {
			t.Errorf("%s is %q, %v; want %q", text, got.Identity.Octets(), err, want)
		}
	}
}

// TestReportsDoNotShowSecrets holds because reports are shown to others.
func TestReportsDoNotShowSecrets(t *testing.T) {
	const secret = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	for _, text := range []string{
		`["` + secret + `", "` + secret + `"]`, `["` + secret + `x"]`, `["` + secret + `00"]`, "[" + strings.Repeat("5", 32) + "]", `["x` + secret + `"]`,
	} {
		_, err := Parse("f", []byte("cookies: {secrets: "+text+"}"))
		if err == nil || strings.Contains(err.Error(), secret[:8]) || strings.Contains(err.Error(), "55555555") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
