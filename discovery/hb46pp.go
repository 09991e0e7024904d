package discovery

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// HB46PP tells the routers of customers, which have IPv6 only, where to ask how
// they get IPv4 (Provisioning of IPv4 over IPv6 by HTTP, version 1.1, §3.1). A
// router that hears that there is no such record takes the customer's IPv4 away for
// hours (§3.6), but one that hears of a failure goes on as before: so where nothing
// is known a client is told of a failure.
type HB46PP struct {
	Views  []View
	Others Others // clients that are in no view
}

// View is what the clients of some prefixes are told.
type View struct {
	Name       string // for people
	Clients    []netip.Prefix
	URL        string
	VerifyCert bool   // the router is to check the certificate of URL
	TTL        uint32 // seconds
}

// Others is what clients in no view are told.
type Others uint8

// What they are told.
const (
	OthersServFail Others = iota // they go on as before, and ask again soon
	OthersNoData                 // they are not customers: the router gives up IPv4 over IPv6
	OthersRecurse                // what the Internet says
)

// maxViewPrefixes bounds the prefixes of all views.
const maxViewPrefixes = 100_000

// hb46ppName is what routers ask for (§3.1).
const hb46ppName = "\x064over6\x04info\x00"

// errNoView goes with SERVFAIL to clients that are in no view.
var errNoView = ede.Error{Code: ede.Prohibited, Text: "no provisioning server is known for your address"}

// provisioning is [HB46PP] as it is used.
type provisioning struct {
	others Others
	views  map[netip.Prefix][]byte // the record, without its owner
	bits   [2][]int                // the lengths of prefixes of IPv4 and IPv6, the longest first
}

// newProvisioning returns what h describes; nil if there are no views.
func newProvisioning(h HB46PP) (*provisioning, error) {
	if len(h.Views) == 0 {
		return nil, nil
	}
	p := &provisioning{others: h.Others, views: make(map[netip.Prefix][]byte)}
	owner := make(map[netip.Prefix]string)
	for _, v := range h.Views {
		text, err := v.Text()
		if err != nil {
			return nil, fmt.Errorf("discovery: hb46pp: %s: %w", v.Name, err)
		}
		data := record(wire.TypeTXT, wire.ClassIN, v.TTL, characterString(text)) // one string: not all clients join them
		for _, prefix := range v.Clients {
			prefix = prefix.Masked()
			if by, again := owner[prefix]; again {
				return nil, fmt.Errorf("discovery: hb46pp: %s: found %v, which %s has too", v.Name, prefix, by)
			}
			owner[prefix], p.views[prefix] = v.Name, data
			family := &p.bits[prefix.Addr().BitLen()/128]
			*family = append(*family, prefix.Bits())
		}
	}
	if len(p.views) > maxViewPrefixes {
		return nil, fmt.Errorf("discovery: hb46pp: found %d prefixes; at most %d are allowed", len(p.views), maxViewPrefixes)
	}
	for i := range p.bits {
		slices.Sort(p.bits[i])
		p.bits[i] = slices.Compact(p.bits[i])
		slices.Reverse(p.bits[i])
	}
	return p, nil
}

// Text returns what the TXT record says, or what is wrong with v.
func (v *View) Text() (string, error) {
	u, err := url.Parse(v.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !printable(v.URL):
		return "", fmt.Errorf("found %q; expected a URL of http or https", v.URL)
	case u.Scheme == "http" && v.VerifyCert:
		return "", fmt.Errorf("found %q, and a certificate to be verified; http has none (t=a)", v.URL)
	}
	t := "a"
	if v.VerifyCert {
		t = "b"
	}
	text := "v=v6mig-1 url=" + v.URL + " t=" + t
	if len(text) > maxString {
		return "", fmt.Errorf("found a URL of %d octets; expected %d at most", len(v.URL), maxString-(len(text)-len(v.URL)))
	}
	return text, nil
}

// find returns the record for a client; nil if it is in no view.
func (p *provisioning) find(client netip.Addr) []byte {
	client = client.Unmap().WithZone("")
	if !client.IsValid() {
		return nil
	}
	for _, bits := range p.bits[client.BitLen()/128] {
		prefix, err := client.Prefix(bits)
		if err != nil {
			continue // it was checked
		}
		if data, ok := p.views[prefix]; ok {
			return data
		}
	}
	return nil
}

// findHB46PP answers q, which is about hb46ppName.
func (d *Directory) findHB46PP(q *wire.Query) (Saying, Outcome) {
	data := d.hb46pp.find(q.Client.Addr())
	switch {
	case data != nil && q.Type == wire.TypeTXT:
		d.counts.hb46pp.Add(1)
		return Saying{Answer: data, Answers: 1}, Said
	case data != nil, d.hb46pp.others == OthersNoData:
		d.counts.hb46ppNone.Add(1)
		return nothing(), Said
	case d.hb46pp.others == OthersRecurse:
		return Saying{}, NotOurs
	}
	d.counts.hb46ppFailed.Add(1)
	return Saying{Rcode: wire.ServFail, Why: &errNoView}, Said
}
