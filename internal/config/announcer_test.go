package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// goodAnnouncer is a file without a fault.
const goodAnnouncer = `
vips:
  - address: 192.0.2.53
  - {address: "2001:db8::53", transports: [udp, tcp, dot, doh, doh3, doq], prefixes: ["2001:db8::/48"]}
fleet: {members: [198.51.100.2, "2001:db8:1::2"]}
bgp:
  asn: 64512
  router_id: 198.51.100.1
  communities: ["64512:1"]
  peers:
    - {address: 198.51.100.254, asn: 64511}
    - {address: "2001:db8:1::fe", asn: 64511, hold_time: 30s}
`

func TestAnnouncerIsReadOverItsDefaults(t *testing.T) {
	a, err := ParseAnnouncer("f", []byte(goodAnnouncer))
	if err != nil {
		t.Fatal(err)
	}
	if a.Driver != DriverBGP || a.Probes.Fall != 3 || len(a.VIPs) != 2 || len(a.VIPs[0].Transports) != 2 ||
		a.VIPs[1].Prefixes[0] != netip.MustParsePrefix("2001:db8::/48") ||
		a.BGP.Peers[0].HoldTime != 9*time.Second || a.BGP.Peers[1].HoldTime != 30*time.Second || a.BGP.LastResortMED != 1000 {
		t.Errorf("%+v", a)
	}
	if _, err := LoadAnnouncer(t.TempDir() + "/none"); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestAnnouncerReportsWhatCannotBe(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{"asn: 64512", "asm: 64512", "f:7:3: bgp.asm: unknown key; did you mean asn?"},
		{"  asn: 64512\n", "", "bgp.asn: missing; expected the number of the AS"},
		{"router_id: 198.51.100.1", "router_id: \"2001:db8::1\"", "bgp.router_id: found \"2001:db8::1\"; expected an IPv4 address"},
		{"[\"64512:1\"]", "[\"64512:70000\"]", "bgp.communities[0]: found \"64512:70000\"; expected two numbers"},
		{"{address: 198.51.100.254, asn: 64511}", "{address: 198.51.100.254}", "bgp.peers[0].asn: missing"},
		{"asn: 64511}", "asn: 64511, hold_time: 1s}", "hold_time: found \"1s\"; expected a duration from 3s to 1h"},
		{"asn: 64511}", "asn: 64511, multihop: 2, ttl_security: true}", "found multihop and ttl_security"},
		{"asn: 64511}", "asn: 64511, local_address: \"2001:db8::1\"}", "local_address: found \"2001:db8::1\"; expected an IP address of the right family"},
		{"    - {address: 198.51.100.254, asn: 64511}\n", "", "vips[0].address: found 192.0.2.53, and no peer of its family"},
		{"[198.51.100.2, \"2001:db8:1::2\"]", "[198.51.100.2]", "fleet.members: found 0 members of the family of 2001:db8::53"},
		{"address: 192.0.2.53", "address: 192.0.2.53:53", "expected it without a port"},
		{"address: \"2001:db8::53\"", "address: 192.0.2.53", "found 192.0.2.53 again; vips[0] has it already"},
		{"\"2001:db8::/48\"", "\"2001:db8:1::/48\"", "found no prefix that 2001:db8::53 is in"},
		{"doq]", "dok]", "expected udp, tcp, dot, doh, doh3 or doq; did you mean dot?"},
		{"fleet:", "driver: loopback\nfleet:", "vips[0].ask_at"},
		{"fleet:", "driver: bird\nfleet:", "bird.file: found \"\"; expected an absolute path"},
		{"fleet:", "driver: bird\nbird: {file: /f, protocol: 4x}\nfleet:", "expected a name for BIRD"},
		{"fleet:", "driver: loopback\nloopback: {interface: \"\"}\nfleet:", "expected the name of an interface"},
		{"fleet:", "probes: {timeout: 2s}\nfleet:", "timeout (2s) is more than interval (1s, the default)"},
		{"fleet:", "probes: {canaries: [example.com], canaries_needed: 2}\nfleet:", "found 2; there are 1 canaries"},
		{"fleet:", "probes: {name: \"\"}\nfleet:", "probes.name: found nothing"},
		{"fleet:", "admin: {listen: [{address: \"127.0.0.1:9155\"}]}\nfleet:", "expected token_file or client_ca_file with it"},
		{"  asn: 64512", "  med: 2000\n  asn: 64512", "found 1000, which routers prefer to med (2000)"},
		{goodAnnouncer, "driver: none\n", "vips: missing"},
	} {
		text := strings.Replace(goodAnnouncer, tt.from, tt.to, 1)
		if text == goodAnnouncer {
			t.Fatalf("%q is not in the file", tt.from)
		}
		if _, err := ParseAnnouncer("f", []byte(text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q in place of %q:\n%v\nwant %s", tt.to, tt.from, err, tt.want)
		}
	}
}

func TestCommunitiesAreNumbers(t *testing.T) {
	for text, want := range map[string]uint32{"0:0": 0, "65535:0": 0xFFFF0000, "64512:1": 64512<<16 | 1} {
		if got, err := ParseCommunity(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "1:", ":1", "65536:1", "1:2:3", "a:b", "-1:1"} {
		if got, err := ParseCommunity(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}
