package config

import (
	"reflect"
	"testing"
	"time"
)

func TestParseReadsTheSharedCache(t *testing.T) {
	got, err := Parse("f", []byte(`shared_cache:
  enabled: true
  servers:
    - {name: memcached-0, address: 192.0.2.1}
    - {name: memcached-1, address: "[2001:db8::1]:11212"}
  service: {name: _memcache._tcp.memcached.dns.svc.cluster.local, resolvers: [192.0.2.53]}
  secret_file: /etc/shirube/secrets
  budget: 2ms
  tls: {enabled: true, ca_file: /etc/shirube/ca.pem}
  username: shirube
  password_file: /etc/shirube/password
`))
	if err != nil {
		t.Fatal(err)
	}
	s := got.SharedCache
	if !s.Enabled || len(s.Servers) != 2 || s.Servers[0].Address.Or(s.Service.Port).Port() != 11211 || s.Servers[1].Address.Or(1).Port() != 11212 {
		t.Errorf("the servers are %+v", s.Servers)
	}
	if s.Authentication != SharedSealed || s.Budget != 2*time.Millisecond || s.Timeout != 250*time.Millisecond || s.InFlight != 4 {
		t.Errorf("the shared cache is %+v", s)
	}
	again, err := Parse("f", []byte(got.YAML()))
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%s is read as %+v, %v", got.YAML(), again, err)
	}
}
