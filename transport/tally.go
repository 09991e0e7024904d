package transport

import (
	"sync/atomic"

	"shirube/internal/wire"
)

// TypeClass is a type of questions, as responses are counted by. There are so
// many and no more, whatever clients ask for.
type TypeClass uint8

// NoType is of responses to messages whose question was not read, OtherType of
// those to questions for types that are not told apart.
const (
	OtherType TypeClass = 0
	NoType    TypeClass = 1
)

// typeClasses are the types that are told apart, behind OtherType and NoType.
var typeClasses = [...]struct {
	typ  wire.Type
	name string
}{
	{name: "other"},
	{name: "none"},
	{wire.TypeA, "A"},
	{wire.TypeAAAA, "AAAA"},
	{wire.TypeHTTPS, "HTTPS"},
	{wire.TypePTR, "PTR"},
	{wire.TypeNS, "NS"},
	{wire.TypeSOA, "SOA"},
	{wire.TypeCNAME, "CNAME"},
	{wire.TypeMX, "MX"},
	{wire.TypeTXT, "TXT"},
	{wire.TypeSRV, "SRV"},
	{35, "NAPTR"},
	{wire.TypeDS, "DS"},
	{wire.TypeDNSKEY, "DNSKEY"},
	{52, "TLSA"},
	{wire.TypeSVCB, "SVCB"},
	{wire.TypeANY, "ANY"},
	{257, "CAA"},
}

// NumTypeClasses is how many there are, for arrays of counters.
const NumTypeClasses = TypeClass(len(typeClasses))

// String returns a word for c that can be a label of a metric.
func (c TypeClass) String() string { return typeClasses[c].name }

// classOf has the classes of types by their numbers, to the highest that has
// one.
var classOf = func() (of [258]TypeClass) {
	for c, t := range typeClasses {
		if TypeClass(c) > NoType {
			of[t.typ] = TypeClass(c)
		}
	}
	of[0] = NoType // no question at all (RFC 7873 §5.4)
	return of
}()

// typeClass returns the class of t.
func typeClass(t wire.Type) TypeClass {
	if int(t) < len(classOf) {
		return classOf[t]
	}
	return OtherType
}

// RcodeClass is a response code, as responses are counted by.
type RcodeClass uint8

// The classes that a header's four bits do not say.
const (
	badCookieClass RcodeClass = 7 // 23 has the four bits of YXRRSET, which no query is answered with
	badVersClass   RcodeClass = 8
	otherRcode     RcodeClass = 9
)

var rcodeNames = [...]string{
	"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "BADCOOKIE", "BADVERS", "other",
}

// NumRcodeClasses is how many there are, for arrays of counters.
const NumRcodeClasses = RcodeClass(len(rcodeNames))

// String returns a word for c that can be a label of a metric.
func (c RcodeClass) String() string { return rcodeNames[c] }

// rcodeClass returns the class of a response by its header.
func rcodeClass(rsp []byte) RcodeClass {
	if c := RcodeClass(rsp[3] & 0x0F); c <= badCookieClass { // RFC 1035 §4.1.1
		return c
	}
	return otherRcode
}

// tally counts responses by type and code, in one counter for both: a hit is to
// cost no more than that.
type tally [NumTypeClasses][NumRcodeClasses]atomic.Uint64

// response counts rsp, a whole response to a question of class t.
func (n *tally) response(t TypeClass, rsp []byte) { n[t][rcodeClass(rsp)].Add(1) }

// addTo adds n to sum.
func (n *tally) addTo(sum *Counts) {
	for t := range n {
		for r := range n[t] {
			count := n[t][r].Load()
			sum.Types[t] += count
			sum.Rcodes[r] += count
		}
	}
}
