package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shirube/announce"
	"shirube/internal/config"
)

func TestPasswordsAreReadWithinTheirBounds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	for text, ok := range map[string]bool{
		"secret\n": true, strings.Repeat("x", maxPassword): true, strings.Repeat("x", maxPassword+1): false, "\n": false,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := peer(&config.BGPPeer{PasswordFile: file})
		if (err == nil) != ok || ok && p.Password != strings.TrimSpace(text) {
			t.Errorf("%d octets: %q, %v", len(text), p.Password, err)
		}
	}
	if _, err := peer(&config.BGPPeer{PasswordFile: file + "x"}); err == nil {
		t.Error("a file that is not there is no error")
	}
}

func TestTransportsAreAskedAtTheirPorts(t *testing.T) {
	cfg, err := config.ParseAnnouncer("f", []byte(`
driver: none
probes: {tls_port: 8853}
fleet: {members: [198.51.100.2, "198.51.100.3:5353"]}
vips: [{address: 192.0.2.53, transports: [udp, dot, doq, doh3], ask_at: [127.0.0.1]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	opt, err := options(&cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, to := range append(opt.VIPs[0].Targets, opt.Fleet.Members...) {
		got = append(got, string(to.Transport)+" "+to.At.String())
	}
	want := "udp 127.0.0.1:53, dot 127.0.0.1:8853, doq 127.0.0.1:8853, doh3 127.0.0.1:443, udp 198.51.100.2:53, udp 198.51.100.3:5353"
	if text := strings.Join(got, ", "); text != want || opt.VIPs[0].Prefixes[0].String() != "192.0.2.53/32" {
		t.Errorf("found %s; want %s; %v", text, want, opt.VIPs[0].Prefixes)
	}
	for _, transport := range config.AnnouncerKeys()[0].Element.Keys[2].Element.Values {
		if ways[announce.Transport(transport)] == "" {
			t.Errorf("nobody asks over %s", transport)
		}
	}
}
