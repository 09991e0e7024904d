package e2e

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/lab/ca"
	"shirube/internal/porttest"
)

// Where the world's servers are. Each step down from the root leads to another
// program: west. is Knot's and the zones below it are NSD's, east. is NSD's and
// the zones below it are Knot's. Only Knot is at ::1.
const (
	addrRoot      = "127.54.0.1"
	addrEast      = "127.54.1.1"
	addrWest      = "127.54.1.2"
	addrNSDZones  = "127.54.2.1"
	addrKnotZones = "127.54.2.2"
	addrSix       = "::1"
	addrSilent    = "127.54.9.1" // takes every query and answers none
	addrNobody    = "127.54.9.2" // nothing listens
)

// signing says who signs a zone, and how.
type signing string

const (
	unsigned  signing = ""
	ldns      signing = "ldns"  // ldns-signzone, NSEC
	knotNSEC  signing = "nsec"  // Knot; the name of a policy in testdata/knot.conf
	knotNSEC3 signing = "nsec3" // Knot; likewise
)

// zone is one zone of the world.
type zone struct {
	name   string // with its last dot
	server string // the address it is served at
	sign   signing
}

// zones are all zones that are served.
var zones = []zone{
	{".", addrRoot, ldns},
	{"east.", addrEast, ldns},
	{"west.", addrWest, knotNSEC},
	{"plain.west.", addrNSDZones, unsigned},
	{"signed.west.", addrNSDZones, ldns},
	{"big.west.", addrNSDZones, unsigned},
	{"glueless.west.", addrNSDZones, unsigned},
	{"half.west.", addrNSDZones, unsigned},
	{"plain.east.", addrKnotZones, unsigned},
	{"signed.east.", addrKnotZones, knotNSEC3},
	{"big.east.", addrKnotZones, unsigned},
	{"six.east.", addrSix, unsigned},
}

// file returns the name of z's zone file.
func (z zone) file() string {
	if z.name == "." {
		return "root.zone"
	}
	return z.name + "zone"
}

// parent returns the zone that delegates z.
func (z zone) parent() string {
	if _, rest, _ := strings.Cut(z.name, "."); rest != "" {
		return rest
	}
	return "."
}

// zoneOf returns the zone that has the data of a name. The DS records of a zone
// are its parent's (RFC 4035 §3.1.4.1).
func zoneOf(name string, typ uint16) zone {
	var found zone
	for _, z := range zones {
		if !dns.IsSubDomain(z.name, name) || (typ == dns.TypeDS && dns.CanonicalName(name) == z.name && z.name != ".") {
			continue
		}
		if found.name == "" || len(z.name) > len(found.name) {
			found = z
		}
	}
	return found
}

//go:embed testdata/*.conf testdata/zones/*.zone
var testdata embed.FS

// world is a running Internet of NSD and Knot.
type world struct {
	dir     string
	port    int
	tlsPort int // on which NSD speaks TLS; Knot 3.2 does not
	held    []*porttest.Port
	servers []*process
	silent  *net.UDPConn // at addrSilent

	elsewhere map[string]string // zones that are not asked of their own server, and the address that is

	mu   sync.Mutex
	seen map[string]int // queries that came to the silent server, by name
}

// startWorld writes, signs and serves all zones, in dir.
func startWorld(dir string) (w *world, err error) {
	w = &world{dir: dir, seen: make(map[string]int)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("the world of name servers does not start: %w\n%s", err, w.logs())
			w.stop()
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return w, err
	}
	if err := w.takePorts(); err != nil {
		return w, err
	}
	if err := w.writeZones(); err != nil {
		return w, err
	}
	if err := w.writeCertificate(); err != nil {
		return w, err
	}
	if err := w.startServers(); err != nil {
		return w, err
	}
	return w, w.ready()
}

// stop ends all servers.
func (w *world) stop() {
	for _, p := range w.servers {
		p.stop()
	}
	if w.silent != nil {
		_ = w.silent.Close()
	}
	for _, p := range w.held {
		p.Release()
	}
}

// logs returns the end of what each server wrote.
func (w *world) logs() string {
	var b strings.Builder
	for _, p := range w.servers {
		fmt.Fprintf(&b, "--- %s (%s)\n%s\n", p.name, p.state(), tail(p.out.String(), 15))
	}
	return b.String()
}

// takePorts takes the ports that all servers of the world listen on, and opens the
// silent server's socket.
func (w *world) takePorts() error {
	for _, number := range []*int{&w.port, &w.tlsPort} {
		p, err := porttest.Hold(false)
		if err != nil {
			return err
		}
		w.held = append(w.held, p)
		*number = int(p.Number)
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addrSilent), uint16(w.port))))
	if err != nil {
		return err
	}
	w.silent = c
	go w.listenSilently() // owner: w; end: stop; bound: one
	return nil
}

// writeCertificate writes a certificate that nobody can verify.
func (w *world) writeCertificate() error {
	authority, err := ca.New("Authority of nobody's")
	if err != nil {
		return err
	}
	issued, err := authority.Issue(ca.Leaf{Names: []string{"ns.example"}})
	if err != nil {
		return err
	}
	cert, key, err := issued.Write(w.dir, "tls")
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(cert, filepath.Join(w.dir, "tls.pem")), os.Rename(key, filepath.Join(w.dir, "tls.key")))
}

// listenSilently reads what comes to the silent server, until it is closed.
func (w *world) listenSilently() {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := w.silent.Read(buf)
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(buf[:n]) == nil && len(m.Question) == 1 {
			w.mu.Lock()
			w.seen[dns.CanonicalName(m.Question[0].Name)]++
			w.mu.Unlock()
		}
	}
}

// awaitSilent waits until the silent server has been asked for name.
func (w *world) awaitSilent(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		n := w.seen[name]
		w.mu.Unlock()
		if n > 0 {
			return
		}
	}
	t.Fatalf("the silent server has not been asked for %s within %v", name, startTimeout)
}

// free returns an error if somebody has an address, on UDP or on TCP.
func free(at netip.AddrPort) error {
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	defer u.Close()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return l.Close()
}

// writeZones writes the zone files and signs those that Knot does not sign
// itself: from the leaves up, for a parent signs the DS records of its children.
func (w *world) writeZones() error {
	if err := w.writeConfig("knot.conf", "knot.conf", addrWest, addrKnotZones, addrSix); err != nil {
		return err
	}
	ds := make(map[string]string) // lines to add to a zone, by its name
	for _, z := range slices.Backward(zones) {
		text, err := zoneText(z)
		if err != nil {
			return err
		}
		path := filepath.Join(w.dir, z.file())
		if err := os.WriteFile(path, []byte(text+ds[z.name]), 0o600); err != nil {
			return err
		}
		var record string
		switch z.sign {
		case unsigned:
			continue
		case ldns:
			record, err = w.signLDNS(z, path)
		case knotNSEC, knotNSEC3:
			record, err = w.keyForKnot(z)
		}
		if err != nil {
			return err
		}
		if z.name != "." {
			ds[z.parent()] += record
		}
	}
	return nil
}

// zoneText returns a zone as it is before it is signed.
func zoneText(z zone) (string, error) {
	if strings.HasPrefix(z.name, "big.") {
		return bigZone(z), nil
	}
	b, err := testdata.ReadFile("testdata/zones/" + z.file())
	return string(b), err
}

// bigZone is a zone of answers of many sizes, in octets of the whole response:
// "half" about 800, "over" about 1,600, "many" about 7,000 and "huge" 22,000.
func bigZone(z zone) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s\n$TTL 3600\n@ SOA ns hostmaster 1 1800 900 604800 300\n@ NS ns.plain.%s\n", z.name, z.parent())
	for _, rrset := range []struct {
		owner     string
		n, length int
	}{{"half", 7, 80}, {"over", 15, 80}, {"many", 64, 80}, {"huge", 100, 200}} {
		for i := range rrset.n {
			fmt.Fprintf(&b, "%s TXT \"%s %03d %s\"\n", rrset.owner, rrset.owner, i, strings.Repeat("x", rrset.length))
		}
	}
	for i := range 100 {
		fmt.Fprintf(&b, "wide A 198.51.100.%d\n", i)
	}
	return b.String()
}

// signLDNS signs the zone file at path in place and returns the zone's DS
// record.
func (w *world) signLDNS(z zone, path string) (ds string, err error) {
	out, err := w.tool("ldns-keygen", "-k", "-a", "ECDSAP256SHA256", z.name)
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(out)
	if _, err := w.tool("ldns-signzone", "-o", z.name, "-f", path+".signed", path, key); err != nil {
		return "", err
	}
	if err := os.Rename(path+".signed", path); err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(w.dir, key+".ds"))
	return string(b), err
}

// keyForKnot makes the key that Knot will sign z with, and returns the zone's
// DS record.
func (w *world) keyForKnot(z zone) (ds string, err error) {
	if _, err := w.tool("keymgr", "-c", "knot.conf", z.name, "generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes"); err != nil {
		return "", err
	}
	out, err := w.tool("keymgr", "-c", "knot.conf", z.name, "ds")
	first, _, _ := strings.Cut(out, "\n") // SHA-256; SHA-384 follows
	return first + "\n", err
}

// tool runs a program in the world's directory and returns its standard output.
func (w *world) tool(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = w.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.Bytes())
	}
	return string(out), nil
}

// writeConfig fills the template testdata/from for a server at addrs with the
// zones of these addresses, and writes it to the file name.
func (w *world) writeConfig(from, name string, addrs ...string) error {
	type served struct {
		Name, File string
		Policy     signing
	}
	data := struct {
		Dir           string
		Port, TLSPort int
		Listen        []string
		Zones         []served
	}{w.dir, w.port, w.tlsPort, addrs, nil}
	for _, z := range zones {
		if slices.Contains(addrs, z.server) {
			data.Zones = append(data.Zones, served{z.name, filepath.Join(w.dir, z.file()), z.sign})
		}
	}
	t, err := template.ParseFS(testdata, "testdata/"+from)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(w.dir, name))
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, data), f.Close())
}

// startServers starts one NSD for the root, one for east. and the zones below
// west., and a Knot for the rest.
func (w *world) startServers() error {
	if err := w.writeConfig("nsd.conf", "nsd-root.conf", addrRoot); err != nil {
		return err
	}
	if err := w.writeConfig("nsd.conf", "nsd.conf", addrEast, addrNSDZones); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		argv []string
	}{
		{"nsd (root)", []string{"nsd", "-d", "-c", filepath.Join(w.dir, "nsd-root.conf")}},
		{"nsd", []string{"nsd", "-d", "-c", filepath.Join(w.dir, "nsd.conf")}},
		{"knot", []string{"knotd", "-c", filepath.Join(w.dir, "knot.conf")}},
	} {
		p, err := start(s.name, s.argv, nil, nil)
		if err != nil {
			return err
		}
		w.servers = append(w.servers, p)
	}
	return nil
}

// ready waits until every zone is served.
func (w *world) ready() error {
	deadline := time.Now().Add(startTimeout)
	for _, z := range zones {
		for {
			m, err := w.ask(z.server, z.name, dns.TypeSOA, false)
			if err == nil && (m.Rcode != dns.RcodeSuccess || !m.Authoritative || len(m.Answer) == 0) {
				err = fmt.Errorf("it says %s", dns.RcodeToString[m.Rcode])
			}
			if err == nil {
				break
			}
			ended := slices.ContainsFunc(w.servers, func(p *process) bool { return !p.running() })
			if ended || time.Now().After(deadline) {
				return fmt.Errorf("%s does not serve %s: %w", z.server, z.name, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// ask asks the server at addr itself, over TCP so that nothing is cut. An
// address without a port is one of the world's servers.
func (w *world) ask(addr, name string, typ uint16, dnssec bool) (*dns.Msg, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		at = netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(w.port))
	}
	return askAt(at, name, typ, dnssec)
}

// hints returns root hints as a zone file.
func (w *world) hints() string {
	return ". 3600000 NS a.root.e2e.\na.root.e2e. 3600000 A " + addrRoot + "\n"
}
