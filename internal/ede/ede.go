// Package ede holds errors that know which Extended DNS Error (RFC 8914) they
// are. What fails a resolution is such an error from the place that knows the
// reason; nobody after it has to guess from a text.
package ede

import (
	"errors"
	"fmt"
	"strconv"
)

// Code is an INFO-CODE (RFC 8914 §4 and the IANA registry "Extended DNS Error
// Codes").
type Code uint16

// The codes of the registry that a resolver sends.
const (
	Other                       Code = 0
	UnsupportedDNSKEYAlgorithm  Code = 1
	UnsupportedDSDigest         Code = 2
	StaleAnswer                 Code = 3
	ForgedAnswer                Code = 4
	Indeterminate               Code = 5
	Bogus                       Code = 6
	SignatureExpired            Code = 7
	SignatureNotYetValid        Code = 8
	DNSKEYMissing               Code = 9
	RRSIGsMissing               Code = 10
	NoZoneKeyBitSet             Code = 11
	NSECMissing                 Code = 12
	CachedError                 Code = 13
	NotReady                    Code = 14
	Blocked                     Code = 15
	Censored                    Code = 16
	Filtered                    Code = 17
	Prohibited                  Code = 18
	StaleNXDOMAIN               Code = 19
	NotAuthoritative            Code = 20
	NotSupported                Code = 21
	NoReachableAuthority        Code = 22
	NetworkError                Code = 23
	InvalidData                 Code = 24
	SignatureExpiredBeforeValid Code = 25
	TooEarly                    Code = 26
	UnsupportedNSEC3Iterations  Code = 27
	UnableToConform             Code = 28
	Synthesized                 Code = 29
	InvalidQueryType            Code = 30
	NegativeTrustAnchor         Code = 33 // an answer that was not validated by the operator's will (RFC 7646)
)

// Error is a failure that a client is told about by its code.
type Error struct {
	Code Code
	Text string // EXTRA-TEXT: short, UTF-8, and free of secrets (RFC 8914 §2)
	Err  error  // the cause, for the log only
}

// Errorf returns an Error with the given code and text.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

// Wrap returns an Error with the given code and text, caused by err.
func Wrap(err error, c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...), Err: err}
}

// Error implements error: the text and its cause, or what there is of them.
func (e *Error) Error() string {
	switch {
	case e.Err == nil && e.Text == "":
		return "extended DNS error " + strconv.Itoa(int(e.Code))
	case e.Err == nil:
		return e.Text
	case e.Text == "":
		return e.Err.Error()
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of returns what to tell a client about err: the Error in its chain, or
// [Other] without a text, for an error that nobody gave a code.
func Of(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: Other, Err: err}
}
