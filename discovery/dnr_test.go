package discovery

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/lab/ca"
	"shirube/internal/wire"
)

// named is what an option of RFC 9463 says.
type named struct {
	priority  uint16
	lifetime  uint32
	domain    string
	addresses []netip.Addr
	params    string // as in a zone file
}

// reader takes fields off the front of an option.
type reader struct {
	t *testing.T
	b []byte
}

func (r *reader) take(n int) []byte {
	r.t.Helper()
	if n > len(r.b) {
		r.t.Fatalf("%d octets are missing: %x", n-len(r.b), r.b)
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

func (r *reader) u8() int  { r.t.Helper(); return int(r.take(1)[0]) }
func (r *reader) u16() int { r.t.Helper(); return int(binary.BigEndian.Uint16(r.take(2))) }

// name reads a name in wire format, all of b.
func (r *reader) name(b []byte) string {
	r.t.Helper()
	s, n, err := dns.UnpackDomainName(b, 0)
	if err != nil || n != len(b) {
		r.t.Fatalf("no name: %x", b)
	}
	return s
}

func (r *reader) addresses(b []byte, size int) (list []netip.Addr) {
	r.t.Helper()
	if len(b)%size != 0 || len(b) == 0 {
		r.t.Fatalf("no addresses: %x", b)
	}
	for part := range slices.Chunk(b, size) {
		a, _ := netip.AddrFromSlice(part)
		list = append(list, a)
	}
	return list
}

// svcParams reads SvcParams by way of an SVCB record.
func (r *reader) svcParams(b []byte) string {
	r.t.Helper()
	rdata := append([]byte{0, 1, 0}, b...) // priority 1, target .
	rr := append([]byte{0, 0, 64, 0, 1, 0, 0, 0, 0}, binary.BigEndian.AppendUint16(nil, uint16(len(rdata)))...)
	got, _, err := dns.UnpackRR(append(rr, rdata...), 0)
	if err != nil {
		r.t.Fatalf("no SvcParams: %v: %x", err, b)
	}
	_, text, _ := strings.Cut(got.String(), "1 . ")
	return strings.ReplaceAll(text, `"`, "")
}

// readDHCPv4 reads options as they are sent: RFC 3396, then RFC 9463 §5.1.
func readDHCPv4(t *testing.T, options []byte) (list []named) {
	t.Helper()
	var data []byte
	for o := (&reader{t, options}); len(o.b) > 0; {
		if code := o.u8(); code != 162 {
			t.Fatalf("option %d", code)
		}
		data = append(data, o.take(o.u8())...)
	}
	for all := (&reader{t, data}); len(all.b) > 0; {
		r := &reader{t, all.take(all.u16())}
		var n named
		n.priority = uint16(r.u16())
		n.domain = r.name(r.take(r.u8()))
		n.addresses = r.addresses(r.take(r.u8()), 4)
		n.params = r.svcParams(r.b)
		list = append(list, n)
	}
	return list
}

// readDHCPv6 reads the data of one option: RFC 9463 §4.1.
func readDHCPv6(t *testing.T, data []byte) (n named) {
	t.Helper()
	r := &reader{t, data}
	n.priority = uint16(r.u16())
	n.domain = r.name(r.take(r.u16()))
	n.addresses = r.addresses(r.take(r.u16()), 16)
	n.params = r.svcParams(r.b)
	return n
}

// readRA reads one option: RFC 9463 §6.1.
func readRA(t *testing.T, option []byte) (n named) {
	t.Helper()
	r := &reader{t, option}
	if typ, units := r.u8(), r.u8(); typ != 144 || 8*units != len(option) {
		t.Fatalf("type %d, %d times 8 octets of %d", typ, units, len(option))
	}
	n.priority = uint16(r.u16())
	n.lifetime = binary.BigEndian.Uint32(r.take(4))
	n.domain = r.name(r.take(r.u16()))
	n.addresses = r.addresses(r.take(r.u16()), 16)
	n.params = r.svcParams(r.take(r.u16()))
	if len(r.b) > 7 || len(bytes.Trim(r.b, "\x00")) > 0 {
		t.Errorf("behind the option: %x", r.b)
	}
	return n
}

func same(a, b named) bool {
	return a.priority == b.priority && a.lifetime == b.lifetime && a.domain == b.domain && slices.Equal(a.addresses, b.addresses) && a.params == b.params
}

func TestNetworksNameTheEncryptedResolvers(t *testing.T) {
	good := certificate(t, ca.Leaf{Names: []string{name}}) // the name is what counts (RFC 9463 §3.1)
	for _, tt := range []struct {
		what   string
		fake   func(*fake)
		ddr    func(*DDR)
		v4, v6 []named
	}{
		{
			what: "the usual ports",
			v4:   []named{{priority: 1, domain: "dns.isp.example.", addresses: addrs("192.0.2.53"), params: "alpn=h3,h2,dot,doq dohpath=/dns-query{?dns}"}},
			v6:   []named{{priority: 1, domain: "dns.isp.example.", addresses: addrs("2001:db8::53"), params: "alpn=h3,h2,dot,doq dohpath=/dns-query{?dns}"}},
		},
		{
			what: "others",
			ddr:  func(o *DDR) { o.Ports = [wire.NumProtos]uint16{wire.DoT: 8853, wire.DoQ: 8853} },
			v4: []named{
				{priority: 1, domain: "dns.isp.example.", addresses: addrs("192.0.2.53"), params: "alpn=h3,h2 dohpath=/dns-query{?dns}"},
				{priority: 2, domain: "dns.isp.example.", addresses: addrs("192.0.2.53"), params: "alpn=dot port=8853"},
				{priority: 3, domain: "dns.isp.example.", addresses: addrs("192.0.2.53"), params: "alpn=doq port=8853"},
			},
			v6: []named{
				{priority: 1, domain: "dns.isp.example.", addresses: addrs("2001:db8::53"), params: "alpn=h3,h2 dohpath=/dns-query{?dns}"},
				{priority: 2, domain: "dns.isp.example.", addresses: addrs("2001:db8::53"), params: "alpn=dot port=8853"},
				{priority: 3, domain: "dns.isp.example.", addresses: addrs("2001:db8::53"), params: "alpn=doq port=8853"},
			},
		},
		{
			what: "behind a load balancer",
			fake: func(f *fake) { f.listeners = everything("10.0.0.5") },
			ddr:  func(o *DDR) { o.Addresses, o.Preference = addrs("192.0.2.1", "192.0.2.2"), []wire.Proto{wire.DoT} },
			v4:   []named{{priority: 1, domain: "dns.isp.example.", addresses: addrs("192.0.2.1", "192.0.2.2"), params: "alpn=dot"}},
		},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f := (&fake{listeners: append(everything("127.0.0.1"), everything("192.0.2.53", "2001:db8::53")...)}).shows(good)
			if tt.fake != nil {
				tt.fake(f)
			}
			o := ddr(f)
			if tt.ddr != nil {
				tt.ddr(&o)
			}
			list, omitted, err := o.Instances(time.Now())
			if err != nil || len(omitted) > 0 {
				t.Fatal(omitted, err)
			}
			data, err := DHCPv4(list)
			if err != nil {
				t.Fatal(err)
			}
			if got := readDHCPv4(t, SplitDHCPv4(data)); !slices.EqualFunc(got, tt.v4, same) {
				t.Errorf("DHCPv4: found %+v; want %+v", got, tt.v4)
			}
			var v6, ra []named
			for i := range list {
				if data := list[i].DHCPv6(); data != nil {
					v6 = append(v6, readDHCPv6(t, data))
				}
				option, err := list[i].RA(time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				if option != nil {
					n := readRA(t, option)
					if n.lifetime != 3600 {
						t.Errorf("good for %d s", n.lifetime)
					}
					n.lifetime = 0
					ra = append(ra, n)
				}
			}
			if !slices.EqualFunc(v6, tt.v6, same) || !slices.EqualFunc(ra, tt.v6, same) {
				t.Errorf("found %+v and %+v; want %+v", v6, ra, tt.v6)
			}
		})
	}
}

func TestNetworksNameNobodyWhoCannotProveIt(t *testing.T) {
	f := (&fake{listeners: everything("192.0.2.53")}).shows(certificate(t, ca.Leaf{Names: []string{"www.isp.example"}, Addrs: addrs("192.0.2.53")}))
	o := ddr(f)
	o.Name = wire.MustParseName(name)
	if list, omitted, err := o.Instances(time.Now()); err != nil || len(list) != 0 || len(omitted) != 4 || omitted[0].Reason != NameUnproven {
		t.Errorf("found %v, %v, %v", list, omitted, err)
	}
	f.shows(certificate(t, ca.Leaf{Addrs: addrs("192.0.2.53")}))
	o.Name = ""
	if _, _, err := o.Instances(time.Now()); err == nil {
		t.Error("a server without a name is named")
	}
	f.listeners = everything("0.0.0.0", "127.0.0.1")
	if _, _, err := o.Instances(time.Now()); err == nil {
		t.Error("a server without an address is named")
	}
}

func TestLongOptionsAreSplitOrRefused(t *testing.T) {
	o := Offer{Protos: []wire.Proto{wire.DoT}, Target: wire.MustParseName(name), ALPN: []string{"dot"}, Port: 853}
	for i := range 63 {
		o.Addresses = append(o.Addresses, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	data, err := DHCPv4([]Offer{o, o})
	if err != nil || len(data) < 2*maxOctet {
		t.Fatal(len(data), err)
	}
	if got := readDHCPv4(t, SplitDHCPv4(data)); len(got) != 2 || len(got[1].addresses) != 63 {
		t.Errorf("found %+v", got)
	}
	o.Addresses = append(o.Addresses, netip.MustParseAddr("192.0.2.63"))
	if _, err := DHCPv4([]Offer{o}); err == nil {
		t.Error("64 addresses pass")
	}
	for i := range 130 {
		o.Addresses = append(o.Addresses, netip.AddrFrom16([16]byte{0x20, 1, 13, 0xb8, 15: byte(i)}))
	}
	if _, err := o.RA(time.Hour); err == nil {
		t.Error("an option of 2 KiB passes")
	}
}

func TestOffersReadAsInAZoneFile(t *testing.T) {
	o := Offer{
		Protos: []wire.Proto{wire.DoH3}, Priority: 7, Target: wire.MustParseName(name), ALPN: []string{"h3", "h2"}, Port: 8443, Path: "/dns-query{?dns}",
		Addresses: addrs("192.0.2.1", "2001:db8::1", "192.0.2.2"),
	}
	rr, err := dns.NewRR(". 300 IN SVCB " + o.String())
	if err != nil {
		t.Fatal(err)
	}
	rdata := make([]byte, 512)
	n, err := dns.PackRR(rr, rdata, 0, nil, false)
	if err != nil || !bytes.Equal(rdata[11:n], o.appendSVCB(nil)) {
		t.Errorf("%s: %x, want %x: %v", &o, o.appendSVCB(nil), rdata[11:n], err)
	}
}
