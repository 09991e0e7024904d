package e2e

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// designation is a resolver that another one has designated: an SVCB record of
// _dns.resolver.arpa (RFC 9462 §4).
type designation struct {
	priority uint16
	target   string
	alpn     []string
	port     uint16
	path     string // of the template, for DoH
	at       netip.Addr
}

// discover asks the resolver that is known by its address alone, as RFC 9462 §4 has
// it, for those it designates, the preferred first.
func discover(t *testing.T, at netip.Addr, port int) []designation {
	t.Helper()
	q := new(dns.Msg).SetQuestion("_dns.resolver.arpa.", dns.TypeSVCB)
	c := dns.Client{Timeout: askTimeout}
	m, _, err := c.Exchange(q, netip.AddrPortFrom(at, uint16(port)).String())
	if err != nil || m.Rcode != dns.RcodeSuccess {
		t.Fatalf("%v: %v", err, m)
	}
	var found []designation
	for _, rr := range m.Answer {
		svcb, ok := rr.(*dns.SVCB)
		// AliasMode is not followed here, and "." would be resolver.arpa itself, which is
		// to be ignored.
		if !ok || svcb.Priority == 0 || svcb.Target == "." {
			t.Errorf("no use to clients: %v", rr)
			continue
		}
		found = append(found, designationOf(t, m, svcb))
	}
	slices.SortFunc(found, func(a, b designation) int { return cmp.Compare(a.priority, b.priority) })
	return found
}

// designationOf reads the parameters of svcb, of the response m. The address is that
// of a record beside it, and has to agree with the hint (RFC 9460 §7.3).
func designationOf(t *testing.T, m *dns.Msg, svcb *dns.SVCB) designation {
	t.Helper()
	d := designation{priority: svcb.Priority, target: svcb.Target}
	hint := ""
	for _, kv := range svcb.Value {
		switch v := kv.(type) {
		case *dns.SVCBAlpn:
			d.alpn = v.Alpn
		case *dns.SVCBPort:
			d.port = v.Port
		case *dns.SVCBDoHPath:
			d.path, _, _ = strings.Cut(v.Template, "{?dns}") // RFC 9461 §5
		case *dns.SVCBIPv4Hint:
			hint = v.Hint[0].String()
		default:
			t.Errorf("a parameter that clients do not know: %v", kv)
		}
	}
	for _, rr := range m.Extra {
		if a, ok := rr.(*dns.A); ok && a.Hdr.Name == d.target {
			d.at, _ = netip.AddrFromSlice(a.A.To4())
		}
	}
	if hint == "" || d.at.String() != hint {
		t.Errorf("the hint of %v is %q, and its address %v", svcb, hint, d.at)
	}
	return d
}

// verify is Verified Discovery (RFC 9462 §4.2): a chain leads to who is trusted, and the
// certificate is for the address by which the resolver was known. It tries what is
// spoken over TCP.
func (d *designation) verify(t *testing.T, known netip.Addr, trusted string) error {
	t.Helper()
	text, err := os.ReadFile(trusted)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	protocol := d.alpn[len(d.alpn)-1]
	conn, err := tls.Dial("tcp", netip.AddrPortFrom(d.at, d.port).String(), &tls.Config{
		RootCAs: roots, ServerName: strings.TrimSuffix(d.target, "."), NextProtos: []string{protocol},
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != protocol {
		return errors.New("it speaks " + state.NegotiatedProtocol)
	}
	return state.PeerCertificates[0].VerifyHostname(known.String())
}

// ask asks q over each protocol that d has and that there is a client for. With trusted
// being empty the server need not prove who it is.
func (d *designation) ask(t *testing.T, q question, trusted string) {
	t.Helper()
	name, port := strings.TrimSuffix(d.target, "."), strconv.Itoa(int(d.port))
	for _, protocol := range d.alpn {
		var args []string
		switch protocol {
		case "h3": // neither kdig nor curl of Debian has it
			continue
		case "h2":
			args = []string{"+https=" + d.path, "+tls-hostname=" + name}
		case "dot":
			args = []string{"+tls", "+tls-hostname=" + name}
		case "doq":
			args = []string{"+quic"}
		default:
			t.Errorf("a protocol that is none of DNS: %q", protocol)
		}
		if trusted != "" && protocol != "doq" {
			args = append(args, "+tls-ca="+trusted)
		}
		c := client{"kdig", append([]string{"@" + d.at.String(), "-p", port}, args...)}
		if trusted == "" && protocol != "doq" {
			c.args = slices.DeleteFunc(c.args, func(a string) bool { return strings.HasPrefix(a, "+tls-hostname") })
		}
		if r := c.one(t, q.name, q.typ); r.status != "NOERROR" || len(r.sections["ANSWER"]) == 0 {
			t.Errorf("%s: %s", protocol, r.raw)
		}
	}
}

var everyday = question{"www.plain.west.", "A"}

// TestDDRClientUpgradesWithProof follows RFC 9462 §4 to its end: a client that knows an
// address asks over all that is designated there, having verified it.
func TestDDRClientUpgradesWithProof(t *testing.T) {
	t.Parallel()
	s := serveEncrypted(t, "", loopback)
	found := discover(t, loopback, s.port)
	var all []string
	for _, d := range found {
		all = append(all, d.alpn...)
		if d.at != loopback || d.target != "dns.example." {
			t.Errorf("designated is %+v", d)
		}
		if d.alpn[0] != "doq" { // kdig tries that, below
			if err := d.verify(t, loopback, s.trusted); err != nil {
				t.Errorf("%+v: %v", d, err)
			}
		}
		d.ask(t, everyday, s.trusted)
	}
	if got := strings.Join(all, " "); got != "h3 h2 dot doq" {
		t.Errorf("designated are %q", got)
	}
	// What else is in resolver.arpa is empty, for clients with other ideas.
	if r := s.ask("dig", "127.0.0.1").one(t, "resolver.arpa.", "A"); r.status != "NOERROR" || len(r.sections["ANSWER"]) != 0 {
		t.Errorf("%s", r.raw)
	}
}

// TestDDRClientUpgradesWithoutProofAtPrivateAddressesOnly has a certificate without the
// address: who wants proof is told of nothing, unless private addresses are excused, and
// then refuses; who does not (RFC 9462 §4.3) goes on.
func TestDDRClientUpgradesWithoutProofAtPrivateAddressesOnly(t *testing.T) {
	t.Parallel()
	if found := discover(t, loopback, serveEncrypted(t, "").port); len(found) != 0 {
		t.Errorf("designated without proof: %+v", found)
	}
	s := serveEncrypted(t, "discovery: {ddr: {opportunistic: true}}\n")
	found := discover(t, loopback, s.port)
	if len(found) != 3 {
		t.Fatalf("designated are %+v", found)
	}
	for _, d := range found {
		if d.alpn[0] != "doq" {
			if err := d.verify(t, loopback, s.trusted); err == nil || !strings.Contains(err.Error(), loopback.String()) {
				t.Errorf("verified: %+v, %v", d, err)
			}
		}
		if d.at != loopback { // RFC 9462 §4.3: the same address, and no other
			t.Errorf("designated is %+v", d)
		}
		d.ask(t, everyday, "")
	}
}
