package config

import (
	"strings"
	"testing"
)

func TestIdentityIsFilledIn(t *testing.T) {
	got, err := Identity{NSID: "{hostname}", ID: "{hostname}.dns.example", Version: "shirube {version}"}.Fill("pod-1", "v1.2.3")
	if want := (Identity{NSID: "pod-1", ID: "pod-1.dns.example", Version: "shirube v1.2.3"}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := (Identity{NSID: "{hostname}{hostname}"}).Fill(strings.Repeat("h", 65), ""); err == nil || !strings.Contains(err.Error(), "found 130 octets; expected 128 at most") {
		t.Errorf("%v", err)
	}
	if same, err := (Identity{NSID: "{other}", NSIDHex: ""}).Fill("h", "v"); err != nil || same.NSID != "{other}" {
		t.Errorf("%+v, %v", same, err)
	}
}
