package discovery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shirube/internal/wire"
)

// The options by which a network names its encrypted resolvers (RFC 9463 §4, §5,
// §6).
const (
	OptionDHCPv4 = 162
	OptionDHCPv6 = 144
	OptionRA     = 144
)

// What the fields of these options can hold, in octets.
const (
	maxOctet    = 255     // a length of one octet
	maxRAOption = 255 * 8 // RFC 4861 §4.6
)

var errOption = errors.New("too much for the option")

// Instances returns the encrypted resolvers that DHCP and router advertisements are
// to name, and what is left out of them: what is listened to at the addresses that
// clients know this server by and that a certificate proves the name of (RFC 9463
// §3.1). The addresses are o's, or those of the listeners.
func (o *DDR) Instances(now time.Time) (list []Offer, omitted []Omission, err error) {
	ddr := *o
	ddr.Enabled = true
	addresses := ddr.Addresses
	if len(addresses) == 0 {
		addresses = ddr.Bound(wire.Proto.Encrypted)
	}
	if len(addresses) == 0 {
		return nil, nil, errors.New("no address is known that clients could be sent to: set discovery.addresses, or listen to single addresses")
	}
	if ddr.Name == "" && ddr.Live.Certificate != nil {
		if c := ddr.Live.Certificate(addresses[0], ""); c != nil {
			ddr.Name = firstName(c)
		}
	}
	if ddr.Name == "" {
		return nil, nil, errors.New("no name is known: set discovery.name")
	}
	for _, a := range addresses {
		found := ddr.Assess(a, true, now)
		for _, offer := range found.Offers {
			list = join(list, offer)
		}
		for _, m := range found.Omissions {
			if !slices.Contains(omitted, m) {
				omitted = append(omitted, m)
			}
		}
	}
	for i := range list {
		list[i].Priority = uint16(i + 1)
	}
	return list, omitted, nil
}

// Bound returns the addresses that have a listener of their own for a transport
// that which wants: not all addresses of a family, and none of loopback.
func (o *DDR) Bound(which func(wire.Proto) bool) (list []netip.Addr) {
	if o.Live.Listeners == nil {
		return nil
	}
	for _, l := range o.Live.Listeners() {
		a := l.At.Addr()
		if which(l.Proto) && !a.IsUnspecified() && !a.IsLoopback() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// join adds next to list: to an offer on the usual ports, if both are, for options
// are short; else to one that differs in the address alone.
func join(list []Offer, next Offer) []Offer {
	usual := next.Port == next.usualPort()
	for i := range list {
		o := &list[i]
		same := slices.Equal(o.ALPN, next.ALPN) && o.Port == next.Port
		switch {
		case same, usual && o.Port == o.usualPort() && (o.Path == "" || next.Path == "" || o.Path == next.Path):
		default:
			continue
		}
		for _, id := range next.ALPN {
			if !slices.Contains(o.ALPN, id) {
				o.ALPN = append(o.ALPN, id)
			}
		}
		for _, a := range next.Addresses {
			if !slices.Contains(o.Addresses, a) {
				o.Addresses = append(o.Addresses, a)
			}
		}
		o.Path += strings.TrimPrefix(next.Path, o.Path)
		return list
	}
	return append(list, next)
}

// of returns the addresses of o of one family, as octets.
func (o *Offer) of(is4 bool) (b []byte) {
	for _, a := range o.Addresses {
		if a.Is4() == is4 {
			b = append(b, a.AsSlice()...)
		}
	}
	return b
}

// DHCPv4 returns the data of one option 162 that names all of list that have IPv4
// addresses (RFC 9463 §5.1). It is empty if none has.
func DHCPv4(list []Offer) (data []byte, err error) {
	for i := range list {
		o := &list[i]
		addresses := o.of(true)
		switch {
		case len(addresses) == 0:
			continue
		case len(addresses) > maxOctet:
			return nil, fmt.Errorf("%w: %d IPv4 addresses", errOption, len(addresses)/4)
		}
		one := binary.BigEndian.AppendUint16(nil, o.Priority)
		one = append(append(one, byte(len(o.Target))), o.Target...) // at most 255 octets (RFC 1035 §3.1)
		one = append(append(one, byte(len(addresses))), addresses...)
		one = o.appendParams(one, false)
		data = binary.BigEndian.AppendUint16(data, uint16(len(one)))
		data = append(data, one...)
	}
	return data, nil
}

// SplitDHCPv4 returns data as options, as long ones are sent (RFC 3396 §5).
func SplitDHCPv4(data []byte) (b []byte) {
	for part := range slices.Chunk(data, maxOctet) {
		b = append(b, OptionDHCPv4, byte(len(part)))
		b = append(b, part...)
	}
	return b
}

// DHCPv6 returns the data of option 144 for o (RFC 9463 §4.1); nil if it has no
// IPv6 address. Each offer is an option of its own.
func (o *Offer) DHCPv6() []byte {
	addresses := o.of(false)
	if len(addresses) == 0 {
		return nil
	}
	b := binary.BigEndian.AppendUint16(nil, o.Priority)
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Target)))
	b = append(b, o.Target...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
	b = append(b, addresses...)
	return o.appendParams(b, false)
}

// RA returns the whole option of a router advertisement for o, which is good for
// lifetime (RFC 9463 §6.1); nil if it has no IPv6 address.
func (o *Offer) RA(lifetime time.Duration) ([]byte, error) {
	addresses := o.of(false)
	if len(addresses) == 0 {
		return nil, nil
	}
	params := o.appendParams(nil, false)
	b := []byte{OptionRA, 0}
	b = binary.BigEndian.AppendUint16(b, o.Priority)
	b = binary.BigEndian.AppendUint32(b, uint32(lifetime/time.Second))
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Target)))
	b = append(b, o.Target...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
	b = append(b, addresses...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(params)))
	b = append(b, params...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	if len(b) > maxRAOption {
		return nil, fmt.Errorf("%w: %d octets", errOption, len(b))
	}
	b[1] = byte(len(b) / 8)
	return b, nil
}

// String returns o as an SVCB record has it in a zone file (RFC 9460 §2.1).
func (o *Offer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v alpn=%s", o.Priority, o.Target, strings.Join(o.ALPN, ","))
	if o.Port != o.usualPort() {
		fmt.Fprintf(&b, " port=%d", o.Port)
	}
	for _, hint := range []struct {
		key string
		is4 bool
	}{{"ipv4hint", true}, {"ipv6hint", false}} {
		var list []string
		for _, a := range o.Addresses {
			if a.Is4() == hint.is4 {
				list = append(list, a.String())
			}
		}
		if len(list) > 0 {
			fmt.Fprintf(&b, " %s=%s", hint.key, strings.Join(list, ","))
		}
	}
	if o.Path != "" {
		fmt.Fprintf(&b, " dohpath=%s", o.Path)
	}
	return b.String()
}
