package ede

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/miekg/dns"
)

func TestCodesAreTheRegistrys(t *testing.T) {
	for code, want := range map[Code]uint16{
		Other:                       dns.ExtendedErrorCodeOther,
		UnsupportedDNSKEYAlgorithm:  dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm,
		UnsupportedDSDigest:         dns.ExtendedErrorCodeUnsupportedDSDigestType,
		StaleAnswer:                 dns.ExtendedErrorCodeStaleAnswer,
		ForgedAnswer:                dns.ExtendedErrorCodeForgedAnswer,
		Indeterminate:               dns.ExtendedErrorCodeDNSSECIndeterminate,
		Bogus:                       dns.ExtendedErrorCodeDNSBogus,
		SignatureExpired:            dns.ExtendedErrorCodeSignatureExpired,
		SignatureNotYetValid:        dns.ExtendedErrorCodeSignatureNotYetValid,
		DNSKEYMissing:               dns.ExtendedErrorCodeDNSKEYMissing,
		RRSIGsMissing:               dns.ExtendedErrorCodeRRSIGsMissing,
		NoZoneKeyBitSet:             dns.ExtendedErrorCodeNoZoneKeyBitSet,
		NSECMissing:                 dns.ExtendedErrorCodeNSECMissing,
		CachedError:                 dns.ExtendedErrorCodeCachedError,
		NotReady:                    dns.ExtendedErrorCodeNotReady,
		Blocked:                     dns.ExtendedErrorCodeBlocked,
		Censored:                    dns.ExtendedErrorCodeCensored,
		Filtered:                    dns.ExtendedErrorCodeFiltered,
		Prohibited:                  dns.ExtendedErrorCodeProhibited,
		StaleNXDOMAIN:               dns.ExtendedErrorCodeStaleNXDOMAINAnswer,
		NotAuthoritative:            dns.ExtendedErrorCodeNotAuthoritative,
		NotSupported:                dns.ExtendedErrorCodeNotSupported,
		NoReachableAuthority:        dns.ExtendedErrorCodeNoReachableAuthority,
		NetworkError:                dns.ExtendedErrorCodeNetworkError,
		InvalidData:                 dns.ExtendedErrorCodeInvalidData,
		SignatureExpiredBeforeValid: dns.ExtendedErrorCodeSignatureExpiredBeforeValid,
		TooEarly:                    dns.ExtendedErrorCodeTooEarly,
		UnsupportedNSEC3Iterations:  dns.ExtendedErrorCodeUnsupportedNSEC3IterValue,
		UnableToConform:             dns.ExtendedErrorCodeUnableToConformToPolicy,
		Synthesized:                 dns.ExtendedErrorCodeSynthesized,
		InvalidQueryType:            dns.ExtendedErrorCodeInvalidQueryType,
		NegativeTrustAnchor:         33, // not in the library yet
	} {
		if uint16(code) != want {
			t.Errorf("code %d is %d (%s) in the registry", code, want, dns.ExtendedErrorCodeToString[want])
		}
	}
}

func TestOfFindsTheCodeWhereverItIsInTheChain(t *testing.T) {
	coded := Wrap(io.ErrUnexpectedEOF, NetworkError, "%s closed the connection", "192.0.2.1")
	for what, err := range map[string]error{
		"itself":   coded,
		"wrapped":  fmt.Errorf("asking for the root: %w", coded),
		"joined":   errors.Join(io.EOF, coded),
		"in Error": fmt.Errorf("once more: %w", fmt.Errorf("again: %w", coded)),
	} {
		if got := Of(err); got != coded {
			t.Errorf("%s: Of = %+v, want %+v", what, got, coded)
		}
	}
}

func TestOfTakesTheOutermostCode(t *testing.T) {
	inner := Errorf(NetworkError, "refused")
	outer := Wrap(inner, NoReachableAuthority, "no server of example. answered")
	if got := Of(fmt.Errorf("resolving: %w", outer)); got != outer {
		t.Errorf("Of = %+v, want %+v", got, outer)
	}
}

func TestOfCallsWhatHasNoCodeOther(t *testing.T) {
	got := Of(io.EOF)
	if got.Code != Other || got.Text != "" || !errors.Is(got, io.EOF) {
		t.Errorf("Of = %+v", got)
	}
}

func TestErrorSaysTextAndCause(t *testing.T) {
	for want, err := range map[string]*Error{
		"no keys for example.":     Errorf(DNSKEYMissing, "no keys for %s", "example."),
		"192.0.2.1: EOF":           Wrap(io.EOF, NetworkError, "192.0.2.1"),
		"EOF":                      Of(io.EOF),
		"extended DNS error 6":     {Code: Bogus},
		"100% of servers are lame": Errorf(Other, "100%% of servers are lame"),
	} {
		if got := err.Error(); got != want {
			t.Errorf("Error() = %q, want %q", got, want)
		}
	}
}

// The cause is for the log: a client is told the text alone.
func TestWrapKeepsTheCauseOutOfTheText(t *testing.T) {
	cause := errors.New("dial udp 10.0.0.1:53: no route")
	err := Wrap(cause, NetworkError, "no server could be reached")
	if err.Text != "no server could be reached" || err.Code != NetworkError || !errors.Is(err, cause) {
		t.Errorf("Wrap = %+v", err)
	}
}
