package cache

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// asker makes the query for the question section in raw: flags are the bits of
// the header's octets 2 and 3, and spelling says which letters change case.
func asker(raw []byte, flags uint16, spelling uint64, edns, do bool) (*wire.Query, bool) {
	msg := []byte{0x12, 0x34, byte(flags>>8) & 1, byte(flags) & 0x30, 0, 1, 0, 0, 0, 0, 0, 0}
	msg = append(msg, raw...)
	for i := range len(raw) - 4 {
		if c := raw[i] | 0x20; c >= 'a' && c <= 'z' && spelling>>(i%64)&1 == 1 {
			msg[wire.HeaderLen+i] ^= 0x20
		}
	}
	if edns {
		msg[11] = 1
		msg = append(msg, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
		if do {
			msg[len(msg)-4] = 0x80
		}
	}
	q := new(wire.Query)
	return q, q.Parse(msg) == wire.OK
}

// questionIn returns the question section of msg, which has one question.
func questionIn(msg []byte) ([]byte, bool) {
	n, err := wire.FromWire(msg[wire.HeaderLen:])
	if err != nil {
		return nil, false
	}
	return msg[wire.HeaderLen:][:len(n)+4], true
}

// FuzzAppend stores arbitrary messages and asks for them. Nothing may panic,
// what comes back fits and is addressed to the client; and of a message that
// came from a packer it is the same, aged.
func FuzzAppend(f *testing.F) {
	m := response(question("www.example.", wire.TypeA), rrs(f, "www.example. 3600 IN CNAME web.www.example.", "web.www.example. 300 IN A 192.0.2.1")...)
	m.Ns = rrs(f, "example. 86400 IN NS ns.www.example.", "example. 2147483649 IN SOA ns.example. root.www.example. 1 2 3 4 5")
	m.Extra = rrs(f, `www.example. 5 IN TXT "A" "b"`, "www.example. 7 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1")
	f.Add(pack(f, m), uint32(10), uint16(0x130), uint64(0x5555), uint16(1232), byte(3))
	f.Add(pack(f, response(question(".", wire.TypeNS), rrs(f, ". 300 IN NS a.root-servers.net.")...)), uint32(1<<31), uint16(0), uint64(0), uint16(20), byte(0))
	f.Add([]byte("\x00\x00\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01A\x00\x00\x01\x00\x01\xC0\x0C\x00\x01\x00\x01\x00\x00\x00\x3C\x00\x02\xC0\x14"), uint32(59), uint16(0), uint64(1), uint16(512), byte(1))
	f.Fuzz(func(t *testing.T, msg []byte, age uint32, flags uint16, spelling uint64, limit uint16, bits byte) {
		if a, err := NewAnswer(msg, nil, epoch, nil); err == nil {
			serve(t, a, age, flags, spelling, limit, bits)
		}
		m := new(dns.Msg)
		if m.Unpack(msg) != nil {
			return
		}
		m.Compress = bits&4 != 0
		packed, err := m.Pack()
		if err != nil {
			return
		}
		a, err := NewAnswer(packed, nil, epoch, nil)
		if err != nil {
			return
		}
		stored := new(dns.Msg)
		if stored.Unpack(packed) != nil {
			return
		}
		out, whole := serve(t, a, age, flags, spelling, limit, bits)
		if !whole {
			return
		}
		for _, r := range slices.Concat(stored.Answer, stored.Ns, stored.Extra) {
			h := r.Header()
			if h.Ttl >= 1<<31 { // RFC 2181 §8
				h.Ttl = 0
			}
			h.Ttl -= min(h.Ttl, age)
		}
		got := unpack(t, out)
		for i, section := range [][]dns.RR{stored.Answer, stored.Ns, stored.Extra} {
			if a, b := records([][]dns.RR{got.Answer, got.Ns, got.Extra}[i]), records(section); a != b {
				t.Fatalf("section %d of the response is\n%swant\n%s", i, a, b)
			}
		}
	})
}

// records returns section as text in which spelling does not matter.
func records(section []dns.RR) string {
	var b strings.Builder
	for _, r := range section {
		b.WriteString(strings.ToLower(r.String()) + "\n")
	}
	return b.String()
}

// serve asks for a, through a cache when that keeps it, and verifies what holds
// of every response. It reports whether the response is whole.
func serve(t *testing.T, a *Answer, age uint32, flags uint16, spelling uint64, limit uint16, bits byte) (out []byte, whole bool) {
	raw, ok := questionIn(a.msg)
	if !ok {
		return nil, false
	}
	q, ok := asker(raw, flags, spelling, bits&1 != 0, bits&2 != 0)
	if !ok {
		return nil, false
	}
	q.Limit = int(limit)
	now := after(float64(age))
	out = a.Append([]byte("before"), q, now)[len("before"):]
	c := NewAnswers(AnswersOptions{Bytes: 2 << 20})
	c.Put(q.Question(), q.DO, q.CD, a)
	cached, hit := c.Append([]byte("before"), q, now)
	kept := len(a.msg) <= MaxAnswer && a.alive(now) && q.Class == wire.ClassIN
	if hit.Found != kept || hit.Found && !bytes.Equal(cached[len("before"):], out) {
		t.Fatalf("from the cache (%v, should be %v) comes %x, directly %x", hit.Found, kept, cached, out)
	}

	if q.ID() != binary.BigEndian.Uint16(out) || out[2]&bitQR == 0 || !bytes.Equal(out[wire.HeaderLen:][:len(raw)], q.RawQuestion()) {
		t.Fatalf("%x is no response to %x", out, q.Msg())
	}
	if out[3]&0x20 != 0 && !q.DO && !q.AD {
		t.Fatalf("AD is set in %x, for %x", out, q.Msg())
	}
	if whole = out[2]&bitTC == 0; !whole {
		if len(out) != wire.HeaderLen+len(raw) {
			t.Fatalf("what is cut off still has %d octets", len(out))
		}
		return out, false
	}
	if len(out) != len(a.msg) || len(out) > q.Limit || q.EDNS && len(out)+wire.OPTLen > q.Limit {
		t.Fatalf("the response has %d octets, the answer %d, the limit is %d", len(out), len(a.msg), q.Limit)
	}
	offsets, _, ok := wire.AppendTTLOffsets(nil, out)
	if !ok || !slices.Equal(offsets, a.ttls) {
		t.Fatalf("the TTLs of %x are at %d, those of the answer at %d (%v)", out, offsets, a.ttls, ok)
	}
	for _, off := range offsets {
		was, is := binary.BigEndian.Uint32(a.msg[off:]), binary.BigEndian.Uint32(out[off:])
		if is != was-min(was, age) {
			t.Fatalf("after %d s a TTL of %d is %d", age, was, is)
		}
	}
	return out, true
}

// FuzzPackedSet packs records as they come out of arbitrary messages: what was
// packed comes back the same.
func FuzzPackedSet(f *testing.F) {
	m := response(question("www.example.", wire.TypeA), rrs(f, "www.example. 300 IN A 192.0.2.1", "WWW.example. 300 IN TXT a b", "www.example. 7 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1")...)
	m.Ns = rrs(f, "www.example. 300 IN RRSIG A 13 2 300 20261231000000 20261101000000 1 example. AAAA", "a.example. 60 IN NSEC z.example. A TYPE65280")
	f.Add(pack(f, m))
	f.Fuzz(func(t *testing.T, msg []byte) {
		m := new(dns.Msg)
		if m.Unpack(msg) != nil {
			return
		}
		s := rrset.Set{Name: wire.Root, Type: wire.TypeA, RRs: m.Answer, Until: epoch}
		proof := rrset.Set{Name: wire.Root, Type: wire.TypeNSEC, Until: epoch}
		for _, r := range m.Ns {
			if sig, ok := r.(*dns.RRSIG); ok {
				s.Sigs = append(s.Sigs, sig)
			} else {
				proof.RRs = append(proof.RRs, r)
			}
		}
		s.Denial = &rrset.Denial{Rcode: wire.NXDomain, Sets: []rrset.Set{proof}}
		p, err := packSet(s)
		if err != nil {
			return
		}
		if p.octets() > MaxAnswer {
			t.Fatalf("%d octets were packed", p.octets())
		}
		got, ok := p.unpack()
		if !ok {
			t.Fatalf("cannot be unpacked: %v", s)
		}
		if a, b := describe(got), describe(s); a != b {
			t.Fatalf("packed:\n%s\nunpacked:\n%s", b, a)
		}
	})
}
