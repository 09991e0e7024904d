package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestProfilesAreReadStrictly(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"questions: {good: {nam: x}}", "p:1:20: questions.good.nam: unknown key; did you mean name?"},
		{"questions: {good: {name: a..b}}", "p:1:26: questions.good.name: found a..b; expected a domain name, such as www.example.com"},
		{"questions: {good: {type: AAAAA}}", "p:1:26: questions.good.type: found AAAAA; expected a type of records, such as AAAA"},
		{"questions: {fresh: {name: www.example.com}}", "expected {random} in it"},
		{"expect: {nsid: \"[\"}", "expected a regular expression"},
		{"expect: {transports: [udp, quic]}", "found \"quic\"; expected udp, tcp, dot, doh, doh3 or doq"},
		{"doh_path: dns", "expected a path"},
		{"dnstap: {listen: \"unix:/x\", status: \"http://x/status.json\"}", "found both listen and status"},
		{"dnstap: {status: \"ftp://x\"}", "expected the URL"},
		{"dnstap: {token_file: /x}", "found a token without status"},
		{"latency: {median: 5s, worst: 1s}", "less than the median of 5s"},
		{"timeout: 5", "which has no unit"},
		{"ports: {dns: 0}", "expected a whole number from 1 to 65535"},
	} {
		if _, err := ParseProfile("p", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
	got, err := ParseProfile("p", nil)
	if err != nil || !reflect.DeepEqual(got, DefaultProfile()) {
		t.Errorf("an empty profile is %+v, %v", got, err)
	}
}

// TestManualHasEveryKeyOfProfiles holds docs/verify.md to the types.
func TestManualHasEveryKeyOfProfiles(t *testing.T) {
	page, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	var look func([]Key)
	look = func(keys []Key) {
		for _, k := range keys {
			if k.Kind == KindSection && k.Struct != "ProfileQuestions" {
				look(k.Keys)
				continue
			}
			if !strings.Contains(string(page), fmt.Sprintf("| `%s` |", k.Path)) {
				t.Errorf("docs/verify.md says nothing of %s", k.Path)
			}
		}
	}
	look(sectionKeys(reflect.ValueOf(DefaultProfile()), "", false))
}
