package collector

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"time"

	"shirube/dnstap"
	"shirube/internal/wire"
)

// line is a record as a line of JSON. Its fields are documented in
// docs/dnstap.md: more may come, none may go or change its meaning.
type line struct {
	Time         string      `json:"time"`
	Type         string      `json:"type"`
	Identity     string      `json:"identity,omitempty"`
	Version      string      `json:"version,omitempty"`
	Protocol     string      `json:"protocol,omitempty"`
	HTTP         string      `json:"http,omitempty"`
	Family       string      `json:"family,omitempty"`
	Query        string      `json:"query_address,omitempty"`
	QueryPort    uint16      `json:"query_port,omitempty"`
	Response     string      `json:"response_address,omitempty"`
	ResponsePort uint16      `json:"response_port,omitempty"`
	QueryTime    string      `json:"query_time,omitempty"`
	ResponseTime string      `json:"response_time,omitempty"`
	Latency      *int64      `json:"latency_us,omitempty"`
	Zone         string      `json:"zone,omitempty"`
	Policy       *policyLine `json:"policy,omitempty"`
	Size         int         `json:"size"`
	ID           *uint16     `json:"id,omitempty"`
	Flags        string      `json:"flags,omitempty"`
	Rcode        string      `json:"rcode,omitempty"`
	QName        string      `json:"qname,omitempty"`
	QType        string      `json:"qtype,omitempty"`
	QClass       uint16      `json:"qclass,omitempty"`
	Answers      uint16      `json:"answers,omitempty"`
}

type policyLine struct {
	Type   string `json:"type,omitempty"`
	Action string `json:"action,omitempty"`
	Match  string `json:"match,omitempty"`
}

// JSON is the [Format] of one JSON object to a line.
func JSON(b []byte, r *dnstap.Record) []byte {
	l := line{
		Time: stamp(r.Time()), Type: word(typeWords, r.Type), Identity: string(r.Identity), Version: string(r.Version),
		Protocol: word(protocolWords, r.SocketProtocol), HTTP: word(httpWords, r.HTTPProtocol), Family: word(familyWords, r.SocketFamily),
		QueryPort: r.Query.Port(), ResponsePort: r.Response.Port(),
		QueryTime: stamp(r.QueryTime), ResponseTime: stamp(r.ResponseTime), Zone: nameOf(r.QueryZone),
	}
	if r.Query.IsValid() {
		l.Query = r.Query.Addr().String()
	}
	if r.Response.IsValid() {
		l.Response = r.Response.Addr().String()
	}
	if !r.QueryTime.IsZero() && !r.ResponseTime.IsZero() {
		took := r.ResponseTime.Sub(r.QueryTime).Microseconds()
		l.Latency = &took
	}
	if p := (policyLine{string(r.Policy.Type), word(actionWords, r.Policy.Action), word(matchWords, r.Policy.Match)}); p != (policyLine{}) {
		l.Policy = &p
	}
	l.message(r)
	text, err := json.Marshal(&l)
	if err != nil { // of strings and numbers there is none
		return b
	}
	return append(append(b, text...), '\n')
}

// message fills in what is in the message's header and question.
func (l *line) message(r *dnstap.Record) {
	msg := r.Message()
	if l.Size = len(msg); len(msg) < wire.HeaderLen {
		return
	}
	id := binary.BigEndian.Uint16(msg)
	l.ID, l.Flags, l.Answers = &id, flags(msg), binary.BigEndian.Uint16(msg[6:])
	if rcode, ok := r.Rcode(); ok {
		l.Rcode = rcode.String()
	}
	if name, typ, class, ok := r.Question(); ok {
		l.QName, l.QType, l.QClass = nameOf(name), typ.String(), class
	}
}

// flagBits are the bits of octets 2 and 3 of a header that have names (RFC 1035
// §4.1.1, RFC 4035 §3.1.6, §3.2.2).
var flagBits = []struct {
	octet int
	bit   byte
	name  string
}{
	{2, 0x80, "qr"}, {2, 0x04, "aa"}, {2, 0x02, "tc"}, {2, 0x01, "rd"}, {3, 0x80, "ra"}, {3, 0x20, "ad"}, {3, 0x10, "cd"},
}

func flags(msg []byte) string {
	var b []byte
	for _, f := range flagBits {
		if msg[f.octet]&f.bit == 0 {
			continue
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, f.name...)
	}
	return string(b)
}

// nameOf returns a name in lower case, or its octets, quoted, if it is none.
func nameOf(b []byte) string {
	if b == nil {
		return ""
	}
	n, err := wire.FromWire(b)
	if err != nil {
		return strconv.QuoteToASCII(string(b))
	}
	return n.String()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}
