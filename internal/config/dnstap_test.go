package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestParseReadsDnstap(t *testing.T) {
	got, err := Parse("f", []byte(`dnstap:
  identity: tokyo-1
  outputs:
    - socket: /run/dnstap.sock
      sample: {client_response: 100, resolver_query: 0, all_servfail: true}
      only: {rcodes: [servfail, nxdomain], suffixes: [example.com], transports: [dot, doq]}
      privacy: {ipv4_bits: 24, hash: true, hash_key: e5e973e5a6b2a43f48e7dc849e37bfcf}
    - address: "[2001:db8::1]:6000"
      tls: {enabled: true, ca_file: ca.pem, cert_file: c.pem, key_file: k.pem}
    - {file: /var/log/tap.fstrm, rotate: {size: 0, age: 5m, keep: 3}}
`))
	if err != nil {
		t.Fatal(err)
	}
	d := got.Dnstap
	if d.Identity != "tokyo-1" || !d.Version || len(d.Outputs) != 3 {
		t.Fatalf("%+v", d)
	}
	s := d.Outputs[0].Sample
	if s.ClientQuery != 1 || s.ClientResponse != 100 || s.ResolverQuery != 0 || !s.AllServFail {
		t.Errorf("%+v", s)
	}
	o := d.Outputs[0].Only
	if o.Rcodes[0].Number() != wire.ServFail || o.Rcodes[1].Number() != wire.NXDomain || o.Transports[0].Proto() != wire.DoT || o.Transports[1].Proto() != wire.DoQ {
		t.Errorf("%+v", o)
	}
	if p := d.Outputs[0].Privacy; p.IPv4Bits != 24 || p.IPv6Bits != 128 || len(p.HashKey.Octets()) != 16 {
		t.Errorf("%+v", p)
	}
	if r := d.Outputs[2].Rotate; r.Size != 0 || r.Age != 5*time.Minute || r.Keep != 3 {
		t.Errorf("%+v", r)
	}
	again, err := Parse("f", []byte(got.YAML()))
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%s is read as %+v, %v", got.YAML(), again, err)
	}
}

func TestWordsOfDnstapAreThoseOfTheWire(t *testing.T) {
	for _, word := range ClientTransport("").values() {
		if p := ClientTransport(word).Proto(); !equalFoldASCII(p.String(), word) {
			t.Errorf("%s is %v", word, p)
		}
	}
	for _, word := range Rcode("").values() {
		if r := Rcode(word).Number(); r != 6 && !equalFoldASCII(r.String(), word) { // wire has no word for YXDOMAIN
			t.Errorf("%s is %v", word, r)
		}
	}
}

func equalFoldASCII(a, b string) bool {
	return wire.MustParseName(a) == wire.MustParseName(b)
}

func TestOutputsAreBounded(t *testing.T) {
	text := "dnstap: {outputs: [" + strings.Repeat("{socket: a}, ", 8) + "{socket: a}]}"
	if _, err := Parse("f", []byte(text)); err == nil {
		t.Error("nine outputs were taken")
	}
}
