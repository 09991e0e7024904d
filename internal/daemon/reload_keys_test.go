package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/lab/ca"
	"shirube/internal/porttest"
	"shirube/internal/wire"
)

// otherValues are values for keys whose kind does not say what another good one
// is.
func otherValues(t *testing.T, d *reloadable) map[string]any {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, _ := signedKey(t)
	ds := key.ToDS(2).String() // SHA-256
	authority, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.Issue(ca.Leaf{Names: []string{"dns.example"}})
	if err != nil {
		t.Fatal(err)
	}
	cert, certKey, err := issued.Write(dir, "tls")
	if err != nil {
		t.Fatal(err)
	}
	server := []config.Server{{Address: config.Address{AddrPort: netip.MustParseAddrPort("192.0.2.1:53")}}}
	zone := func(name string) []config.Zone {
		return []config.Zone{{Name: wire.MustParseName(name), Servers: server}}
	}
	return map[string]any{
		"listen":                            append(slices.Clone(d.cfg.Listen), listenOn(porttest.Take(t))),
		"tls.certificates":                  []config.Certificate{{CertFile: cert, KeyFile: certKey}},
		"tls.ticket_secret_file":            write("tickets", strings.Repeat("0f", 32)+"\n"),
		"doh.path":                          "/query",
		"doh.trusted_proxies":               []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		"doh.socket":                        filepath.Join(dir, "doh.sock"),
		"doh.group":                         "0",
		"access_control":                    []config.AccessRule{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Action: config.ActionAllowSnoop}},
		"cookies.secrets":                   []config.Secret{"000102030405060708090a0b0c0d0e0f"},
		"cookies.secret_file":               write("secrets", "000102030405060708090a0b0c0d0e0f\n"),
		"resolver.opportunistic_encryption": []config.AuthorityEncryption{"dot"},
		"identity.nsid":                     "one",
		"identity.nsid_hex":                 "6f6e65",
		"identity.id":                       "one",
		"identity.version":                  "one",
		"discovery.name":                    wire.MustParseName("dns.example."),
		"discovery.addresses":               []config.Address{{AddrPort: netip.MustParseAddrPort("192.0.2.1:0")}},
		"discovery.ddr.preference":          []config.Encrypted{"dot"},
		"discovery.resinfo.info_url":        "https://isp.example/",
		"provisioning.hb46pp":               []config.HB46PP{{Name: "all", Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, URL: "http://isp.example/", TTL: time.Hour}},
		"forward_zones":                     zone("forward.example."),
		"stub_zones":                        zone("stub.example."),
		"builtin_zones.except":              []wire.Name{wire.MustParseName("onion.")},
		"local_root.file":                   write("root.zone", ""),
		"local_root.servers":                []config.Address{{AddrPort: netip.MustParseAddrPort("192.0.2.1:53")}},
		"resolver.root_hints":               write("root.hints", ". 3600 NS a.\na. 3600 A 192.0.2.1\n"),
		"admin.socket":                      filepath.Join(dir, "admin.sock"),
		"admin.group":                       "0",
		"admin.listen":                      []config.AdminListener{{Address: netip.MustParseAddrPort("127.0.0.1:1"), TokenFile: write("admin-token", "a-token-that-nobody-guesses")}},
		"health.name":                       "health.example",
		"health.addresses":                  []config.Address{{AddrPort: netip.MustParseAddrPort("192.0.2.1:0")}},
		"health.clients":                    []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		"dnssec.trust_anchors":              []config.TrustAnchor{config.TrustAnchor(ds)},
		"dnssec.trust_anchor_files":         []string{write("anchors", ds+"\n")},
		"dnssec.state_directory":            filepath.Join(dir, "state"),
		"dnssec.negative_trust_anchors":     []config.NegativeTrustAnchor{{Name: wire.MustParseName("example.com."), For: time.Hour}},
		"dnssec.override_time":              config.Override("-1"),
		"dnssec.disabled_algorithms":        []config.Algorithm{"ED448"},
		"dnssec.disabled_ds_digests":        []config.Digest{"SHA384"},
		"dnstap.identity":                   "one",
		"dnstap.outputs":                    []config.DnstapOutput{{File: filepath.Join(dir, "tap"), QueueSize: 1 << 20}},
		"control.socket":                    filepath.Join(dir, "control"),
		"control.group":                     "0",
		"tracing.endpoint":                  "unix:" + filepath.Join(dir, "traces"),
		"tracing.names":                     []wire.Name{wire.MustParseName("example.com.")},
		"tracing.headers_file":              write("headers", "A: b\n"),
		"tracing.tls.ca_file":               "ca.pem",
		"tracing.tls.cert_file":             "cert.pem",
		"tracing.tls.key_file":              "key.pem",
		"debug.clock_offset_file":           filepath.Join(dir, "offset"),

		"shared_cache.servers":           []config.SharedServer{{Name: "a", Address: config.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:9")}}},
		"shared_cache.servers_file":      write("servers", "a 127.0.0.1:9\n"),
		"shared_cache.service.name":      "memcached.example",
		"dnstap.top.privacy.hash_key":    config.Secret(strings.Repeat("0f", 16)),
		"shared_cache.service.resolvers": []config.Address{{AddrPort: netip.MustParseAddrPort("192.0.2.1:53")}},
		"shared_cache.secret_file":       write("shared", strings.Repeat("0f", 32)+"\n"),
		"shared_cache.tls.ca_file":       "ca.pem",
		"shared_cache.tls.cert_file":     "cert.pem",
		"shared_cache.tls.key_file":      "key.pem",
		"shared_cache.username":          "shirube",
		"shared_cache.password_file":     "password",
	}
}

// companions are what keys cannot be changed without.
var companions = map[string]func(*config.Config){
	"resolver.ipv4":                   func(c *config.Config) { c.Resolver.RootHints = "" }, // nothing is asked here
	"resolver.do_not_query_localhost": func(c *config.Config) { c.Resolver.RootHints = "" },
	"shared_cache.enabled":            func(c *config.Config) { c.SharedCache.Authentication = config.SharedNone },
	"local_root.enabled":              func(c *config.Config) { c.LocalRoot.File = "testdata/none" },
}

// another sets v, which k describes, to another good value.
func another(k *config.Key, v reflect.Value) error {
	switch k.Kind {
	case config.KindBool:
		v.SetBool(!v.Bool())
	case config.KindInteger, config.KindDuration, config.KindSize:
		least := max(k.Min, 1)
		now := reflect.ValueOf(v.Interface())
		if now.CanInt() && now.Int() == least || now.CanUint() && now.Uint() == uint64(least) {
			least *= 2
		}
		v.Set(reflect.ValueOf(least).Convert(v.Type()))
	case config.KindEnum:
		for _, word := range k.Values {
			if word != v.String() {
				v.SetString(word)
				return nil
			}
		}
	default:
		return fmt.Errorf("%s needs another value in otherValues", k.Path)
	}
	return nil
}

// eachLeaf calls do with every key that is no section, and its value in v.
func eachLeaf(keys []config.Key, v reflect.Value, do func(*config.Key, reflect.Value)) {
	for i := range keys {
		k := &keys[i]
		field := v.FieldByName(k.Field)
		if k.Kind == config.KindSection {
			eachLeaf(k.Keys, field, do)
			continue
		}
		do(k, field)
	}
}

// TestReloadTakesEveryKeyOrSaysThatItNeedsARestart changes one key after the
// other in a running server. What a change does is shown elsewhere; here no key
// is forgotten: it takes effect, or the reload is refused and names it, as the
// reference says.
func TestReloadTakesEveryKeyOrSaysThatItNeedsARestart(t *testing.T) {
	r := startReloadable(t, func(cfg *config.Config) {
		cfg.DNSSEC.Validation, cfg.DNSSEC.AutoTrustAnchor = true, false
	})
	good, values := r.cfg, otherValues(t, r)
	manual, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	eachLeaf(config.Keys(), reflect.ValueOf(&good).Elem(), func(k *config.Key, _ reflect.Value) {
		keys++
		next := good
		var set bool
		eachLeaf(config.Keys(), reflect.ValueOf(&next).Elem(), func(other *config.Key, v reflect.Value) {
			if other.Path != k.Path {
				return
			}
			set = true
			if value, ok := values[k.Path]; ok {
				v.Set(reflect.ValueOf(value))
			} else if err := another(k, v); err != nil {
				t.Error(err)
			}
		})
		if with := companions[k.Path]; with != nil {
			with(&next)
		}
		if !set || reflect.DeepEqual(good, next) {
			t.Fatalf("%s was not changed", k.Path)
		}
		before := r.Pipeline()
		r.Load = func() (config.Config, error) { return next, nil }
		changed, err := r.Reload(t.Context())
		_, text, _ := strings.Cut(string(manual), "\n### `"+k.Path+"`\n")
		text, _, _ = strings.Cut(text, "\n##")
		if said := strings.Contains(text, "Change: needs a restart"); text != "" && said != k.Restart {
			t.Errorf("%s: the reference says %v", k.Path, said)
		}
		if k.Restart {
			if want := "a change of " + k.Path + " needs a restart of the server"; err == nil || err.Error() != want || r.Pipeline() != before {
				t.Errorf("%s: got %v, want %q", k.Path, err, want)
			}
			return
		}
		if err != nil || !slices.Contains(changed, k.Path) || r.Pipeline() == before || !reflect.DeepEqual(r.Pipeline().Config, next) {
			t.Errorf("%s: got %v, %q", k.Path, err, changed)
		}
		r.Load = func() (config.Config, error) { return good, nil }
		if _, err := r.Reload(t.Context()); err != nil {
			t.Errorf("back from %s: %v", k.Path, err)
		}
	})
	if keys < 80 {
		t.Errorf("only %d keys", keys)
	}
}
