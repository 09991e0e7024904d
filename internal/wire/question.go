package wire

import "strconv"

// Question is what a resolution is about. The class is always IN: others are
// turned away at the door.
type Question struct {
	Name Name
	Type Type
}

// String returns q as it reads in a log: name and type.
func (q Question) String() string { return q.Name.String() + " " + q.Type.String() }

// Type is an RR type (RFC 1035 §3.2.2) or a QTYPE (§3.2.3).
type Type uint16

// The types that code outside the parser of whole messages has to know.
const (
	TypeA          Type = 1
	TypeNS         Type = 2
	TypeCNAME      Type = 5
	TypeSOA        Type = 6
	TypePTR        Type = 12
	TypeHINFO      Type = 13
	TypeMX         Type = 15
	TypeTXT        Type = 16
	TypeAAAA       Type = 28
	TypeSRV        Type = 33
	TypeDNAME      Type = 39
	TypeOPT        Type = 41
	TypeDS         Type = 43
	TypeRRSIG      Type = 46
	TypeNSEC       Type = 47
	TypeDNSKEY     Type = 48
	TypeNSEC3      Type = 50
	TypeNSEC3PARAM Type = 51
	TypeSVCB       Type = 64
	TypeHTTPS      Type = 65
	TypeTKEY       Type = 249
	TypeTSIG       Type = 250
	TypeIXFR       Type = 251
	TypeAXFR       Type = 252
	TypeMAILB      Type = 253
	TypeMAILA      Type = 254
	TypeANY        Type = 255
	TypeRESINFO    Type = 261 // RFC 9606 §3
)

// typeNames has what a log is likely to show, from the IANA registry "Resource
// Record (RR) TYPEs": more than the types named above.
var typeNames = map[Type]string{
	TypeA: "A", TypeNS: "NS", TypeCNAME: "CNAME", TypeSOA: "SOA", TypePTR: "PTR", TypeHINFO: "HINFO",
	TypeMX: "MX", TypeTXT: "TXT", TypeAAAA: "AAAA", TypeSRV: "SRV", TypeDNAME: "DNAME", TypeOPT: "OPT",
	TypeDS: "DS", TypeRRSIG: "RRSIG", TypeNSEC: "NSEC", TypeDNSKEY: "DNSKEY", TypeNSEC3: "NSEC3",
	TypeNSEC3PARAM: "NSEC3PARAM", TypeSVCB: "SVCB", TypeHTTPS: "HTTPS", TypeTKEY: "TKEY", TypeTSIG: "TSIG",
	TypeIXFR: "IXFR", TypeAXFR: "AXFR", TypeMAILB: "MAILB", TypeMAILA: "MAILA", TypeANY: "ANY",
	10: "NULL", 17: "RP", 18: "AFSDB", 24: "SIG", 25: "KEY", 29: "LOC", 35: "NAPTR", 36: "KX", 37: "CERT",
	42: "APL", 44: "SSHFP", 45: "IPSECKEY", 49: "DHCID", 52: "TLSA", 53: "SMIMEA", 55: "HIP", 59: "CDS",
	60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 99: "SPF", 104: "NID", 105: "L32",
	106: "L64", 107: "LP", 108: "EUI48", 109: "EUI64", 128: "NXNAME", 256: "URI", 257: "CAA", 258: "AVC",
	260: "AMTRELAY", 261: "RESINFO",
}

// String returns the mnemonic of t, or TYPEn (RFC 3597 §5).
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// Meta reports whether t can only be asked for, never be stored: the QTYPEs
// and pseudo-RRs (RFC 6895 §3.1, 128…255, and OPT).
func (t Type) Meta() bool { return t == TypeOPT || t >= 128 && t <= 255 }

// The classes (RFC 1035 §3.2.4, §3.2.5).
const (
	ClassIN  uint16 = 1
	ClassCH  uint16 = 3
	ClassANY uint16 = 255
)

// Rcode is a response code, all twelve bits of it (RFC 6891 §6.1.3).
type Rcode uint16

// The response codes that this server sends or judges (RFC 6895 §2.3).
const (
	NoError   Rcode = 0
	FormErr   Rcode = 1
	ServFail  Rcode = 2
	NXDomain  Rcode = 3
	NotImp    Rcode = 4
	Refused   Rcode = 5
	YXDomain  Rcode = 6
	BadVers   Rcode = 16
	BadCookie Rcode = 23 // RFC 7873 §8
)

var rcodeNames = map[Rcode]string{
	NoError: "NOERROR", FormErr: "FORMERR", ServFail: "SERVFAIL", NXDomain: "NXDOMAIN",
	NotImp: "NOTIMP", Refused: "REFUSED", YXDomain: "YXDOMAIN", BadVers: "BADVERS", BadCookie: "BADCOOKIE",
}

// String returns the mnemonic of r, or RCODEn.
func (r Rcode) String() string {
	if s, ok := rcodeNames[r]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(int(r))
}
