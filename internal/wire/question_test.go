package wire

import (
	"testing"

	"github.com/miekg/dns"
)

func TestTypeStringIsTheRegistrysMnemonic(t *testing.T) {
	for typ, name := range typeNames {
		if want := dns.TypeToString[uint16(typ)]; name != want {
			t.Errorf("type %d is %q, in the registry %q", typ, name, want)
		}
		if typ.String() != name {
			t.Errorf("type %d is printed %q", typ, typ)
		}
	}
	for typ, want := range map[Type]string{0: "TYPE0", 65280: "TYPE65280", 65535: "TYPE65535"} { // RFC 3597 §5
		if got := typ.String(); got != want {
			t.Errorf("type %d is printed %q, want %q", typ, got, want)
		}
	}
}

func TestTypeMetaIsWhatCannotBeStored(t *testing.T) {
	for typ := range 1 << 16 { // RFC 6895 §3.1
		want := typ == 41 || typ >= 128 && typ <= 255
		if got := Type(typ).Meta(); got != want {
			t.Errorf("%s is meta: %v", Type(typ), got)
		}
	}
}

func TestRcodeStringIsTheRegistrysMnemonic(t *testing.T) {
	for rcode, name := range rcodeNames {
		want := dns.RcodeToString[int(rcode)]
		if rcode == BadVers {
			want = "BADVERS" // 16 is BADSIG in a TSIG record (RFC 6895 §2.3)
		}
		if name != want || rcode.String() != name {
			t.Errorf("rcode %d is printed %q, in the registry %q", rcode, rcode, want)
		}
	}
	if got := Rcode(4095).String(); got != "RCODE4095" {
		t.Errorf("rcode 4095 is printed %q", got)
	}
}

func TestQuestionStringIsNameAndType(t *testing.T) {
	q := Question{Name: MustParseName(`a\.b.Example`), Type: TypeAAAA}
	if got := q.String(); got != `a\.b.example. AAAA` {
		t.Errorf("Question is printed %q", got)
	}
}

func TestProtoStringNamesEachTransport(t *testing.T) {
	seen := map[string]bool{}
	for p := range NumProtos {
		seen[p.String()] = true
	}
	if len(seen) != int(NumProtos) || seen[""] {
		t.Errorf("the transports are called %v", seen)
	}
	if got := NumProtos.String(); got != "Proto6" {
		t.Errorf("what is no transport is called %q", got)
	}
}
