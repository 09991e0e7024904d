package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// rootTLDs is how many top-level domains the root zones to transfer have beside
// the world's: so many that a transfer takes several messages.
const rootTLDs = 1500

// rootZone returns a root zone signed by ldns-signzone, with a digest of it
// (RFC 8976) if it is to have one.
func rootZone(t *testing.T, digest bool) string {
	t.Helper()
	text, err := testdata.ReadFile("testdata/zones/root.zone")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.Write(text)
	for i := range rootTLDs {
		fmt.Fprintf(&b, "tld%d NS ns.nic.west.\n", i)
	}
	w := &world{dir: t.TempDir()}
	writeFile(t, filepath.Join(w.dir, "zone"), b.String())
	key, err := w.tool("ldns-keygen", "-a", "ECDSAP256SHA256", ".")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-o", ".", "-f", "signed"}
	if digest {
		args = append(args, "-z", "simple:sha384")
	}
	if _, err := w.tool("ldns-signzone", append(args, "zone", strings.TrimSpace(key))...); err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join(w.dir, "signed"))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// nobodysHints name a root server that is not there, so that what is known of
// the root is from a copy.
const nobodysHints = ". 3600000 NS a.root.e2e.\na.root.e2e. 3600000 A " + addrNobody + "\n"

// TestRootZoneIsTransferred has the root zone transferred from every software,
// with a digest that matches, with one that does not, and without one.
func TestRootZoneIsTransferred(t *testing.T) {
	const used = "using a local copy of the root zone" // says the log
	good, without := rootZone(t, true), rootZone(t, false)
	// One octet of glue is another. (In the form that ldns-signzone writes.)
	bad := regexp.MustCompile(`(?m)^(ns\.nic\.east\.\s.*)127\.54\.1\.1$`).ReplaceAllString(good, "${1}127.54.1.3")
	if bad == good || !strings.Contains(good, "\tZONEMD\t") {
		t.Fatalf("no zone to damage:\n%s", head(good, 20))
	}
	for _, sw := range softwares {
		for _, c := range []struct {
			name, zone, zonemd, said string
		}{
			{"digest", good, "require", used},
			{"wrong digest", bad, "require", "ZONEMD does not match the zone"},
			{"wrong digest, if present", bad, "if_present", "ZONEMD does not match the zone"},
			{"no digest", without, "require", "no ZONEMD record that can be checked"},
			{"no digest, if present", without, "if_present", used},
		} {
			t.Run(sw.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				at := freeAt(t, "127.0.0.1")
				startAuthority(t, sw, []served{{Name: ".", text: c.zone, signed: true}}, at)
				s := serve(t, settings{
					hints: nobodysHints, port: built.world.port,
					more: fmt.Sprintf("local_root: {enabled: true, servers: [%q], zonemd: %s}\n", at, c.zonemd),
				})
				if _, err := s.await(s.out, c.said, startTimeout); err != nil {
					t.Fatal(err)
				}
				askCopy(t, s, c.said == used)
			})
		}
	}
}

// askCopy asks for what only a copy of the root leads to.
func askCopy(t *testing.T, s *server, used bool) {
	t.Helper()
	for _, q := range []struct {
		question

		status string
	}{
		{question{"www.plain.west.", "A"}, "NOERROR"},
		{question{"www.plain.east.", "A"}, "NOERROR"},
		{question{"nosuch.", "A"}, "NXDOMAIN"},
		{question{"west.", "DS"}, "NOERROR"},
	} {
		if !used {
			q.status = "SERVFAIL"
		}
		begun := time.Now()
		if r := s.ask("kdig", "127.0.0.1", "+timeout=10", "+retry=0").one(t, q.name, q.typ); r.status != q.status {
			t.Errorf("%v: %s after %v, want %s\n%s", q.question, r.status, time.Since(begun), q.status, r.raw)
		}
	}
}
