package transport

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"shirube/internal/wire"
)

// malformed is one file of the corpus.
type malformed struct {
	name string
	want string // ignored, formerr, notimp, badvers
	msg  []byte
}

// corpus reads all malformed messages that there are.
func corpus(t *testing.T) (all []malformed) {
	t.Helper()
	files, err := filepath.Glob("../internal/wire/testdata/malformed/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no malformed messages: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := malformed{name: strings.TrimSuffix(filepath.Base(file), ".hex")}
		first, _, _ := strings.Cut(string(text), "\n")
		var ok bool
		if m.want, ok = strings.CutPrefix(strings.TrimSpace(first), "# want: "); !ok {
			t.Fatalf("%s does not say what it wants: %q", file, first)
		}
		var digits strings.Builder
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				digits.WriteString(strings.Join(strings.Fields(line), ""))
			}
		}
		if m.msg, err = hex.DecodeString(digits.String()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, m)
	}
	return all
}

// wantOutcome wants raw to be the response that m asks for: a header alone,
// but for BADVERS, that repeats nothing but ID, opcode and RD.
func (m *malformed) wantOutcome(t *testing.T, raw []byte) {
	t.Helper()
	rcodes := map[string]int{"formerr": dns.RcodeFormatError, "notimp": dns.RcodeNotImplemented, "badvers": dns.RcodeBadVers}
	want, ok := rcodes[m.want]
	if !ok {
		t.Fatalf("%s wants %q and got a response of %d octets", m.name, m.want, len(raw))
	}
	if m.want != "badvers" && len(raw) != wire.HeaderLen {
		t.Errorf("%d octets", len(raw))
	}
	got := unpack(t, raw)
	rcode := got.Rcode
	if opt := got.IsEdns0(); opt != nil && m.want == "badvers" {
		rcode = got.Rcode&0xF | opt.ExtendedRcode()
		if opt.Version() != 0 { // RFC 6891 §6.1.3
			t.Errorf("EDNS version %d", opt.Version())
		}
	}
	if rcode != want || raw[0] != m.msg[0] || raw[1] != m.msg[1] || got.Opcode != int(m.msg[2]>>3&0xF) {
		t.Errorf("%s: %v", m.name, got)
	}
}

func statusOf(t *testing.T, want string) wire.Status {
	t.Helper()
	s, ok := map[string]wire.Status{
		"ignored": wire.Ignored, "formerr": wire.Malformed,
		"notimp": wire.UnsupportedOpcode, "badvers": wire.UnsupportedVersion,
	}[want]
	if !ok {
		t.Fatalf("unknown outcome %q", want)
	}
	return s
}

// sentinelID is of a query whose answer shows that there was none before it.
const sentinelID = 0xBEEF

func TestMalformedMessagesOverUDP(t *testing.T) {
	for _, m := range corpus(t) {
		t.Run(m.name, func(t *testing.T) {
			u, at := startUDP(t, UDPOptions{Handler: newScripted()}, "127.0.0.1:0")
			c := dial(t, "udp", at)
			write(t, c, m.msg)
			// The responses to one batch may change places.
			eventually(t, "it is counted", func() bool { return u.Stats().Status[statusOf(t, m.want)] == 1 })
			write(t, c, packQuery(t, sentinelID, "hit"))
			raw := receiveUDP(t, c)
			if m.want != "ignored" {
				m.wantOutcome(t, raw)
				raw = receiveUDP(t, c)
			}
			if id := unpack(t, raw).Id; id != sentinelID {
				t.Errorf("a response with ID %x", id)
			}
			if s := u.Stats(); s.Received != 2 || s.Status[statusOf(t, m.want)] != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestMalformedMessagesOverTCP(t *testing.T) {
	for _, m := range corpus(t) {
		t.Run(m.name, func(t *testing.T) {
			s, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
			c := dial(t, "tcp", at)
			write(t, c, frame(m.msg))
			if m.want == "ignored" {
				wantClosed(t, c)
				eventually(t, "it is counted", func() bool { return s.Stats().Closed[ClosedNoQuery] == 1 })
			} else {
				m.wantOutcome(t, receiveTCP(t, c))
				askTCP(t, c, sentinelID, "hit") // the connection goes on
			}
			if n := s.Stats().Status[statusOf(t, m.want)]; n != 1 {
				t.Errorf("counted %d times", n)
			}
		})
	}
}

// TestMalformedMessagesDisturbNobody sends all of them from one socket, as
// fast as it can, between the queries of another.
func TestMalformedMessagesDisturbNobody(t *testing.T) {
	_, at := startUDP(t, UDPOptions{Handler: newScripted()}, "127.0.0.1:0")
	bad, good := dial(t, "udp", at), dial(t, "udp", at)
	for i, m := range corpus(t) {
		write(t, bad, m.msg)
		if got := askUDP(t, good, uint16(i), "hit"); got.Rcode != dns.RcodeSuccess {
			t.Errorf("after %s: %v", m.name, got)
		}
	}
}

// TestMalformedMessagesOverHTTPAndQUIC is the same where a message comes in a body or
// on a stream: no transport leaves the look at the header out (CVE-2026-86003,
// CVE-2026-82399).
func TestMalformedMessagesOverHTTPAndQUIC(t *testing.T) {
	doh, secure, _ := startDoH(t, DoHOptions{Handler: newScripted()})
	doh3, _, url := startDoH3(t, QUICOptions{Handler: newScripted()})
	doq, at := startDoQ(t, QUICOptions{Handler: newScripted()})
	webs := []struct {
		client *http.Client
		url    string
	}{{webWays[0].client(t), webWays[0].url(secure, secure)}, {webWays[1].client(t), webWays[1].url(secure, secure)}, {http3Client(t), url}}
	want := make(map[wire.Status]uint64)
	for _, m := range corpus(t) {
		status := statusOf(t, m.want)
		want[status]++
		for _, w := range webs {
			rsp, raw := do(t, w.client, http.MethodPost, w.url, mediaType, bytes.NewReader(m.msg))
			switch {
			case m.want == "ignored":
				if rsp.StatusCode != http.StatusBadRequest {
					t.Errorf("%s over %s: %s", m.name, rsp.Proto, rsp.Status)
				}
			case rsp.StatusCode != http.StatusOK:
				t.Errorf("%s over %s: %s", m.name, rsp.Proto, rsp.Status)
			default:
				m.wantOutcome(t, raw)
			}
		}
		copy(m.msg, []byte{0, 0}) // RFC 9250 §4.2.1: else it is no DoQ
		c := mustDialQUIC(t, at)
		raw, err := receiveDoQ(sendDoQ(t, c, frame(m.msg)))
		if m.want == "ignored" {
			var closed *quic.ApplicationError
			if !errors.As(err, &closed) || closed.ErrorCode != doqProtocolError {
				t.Errorf("%s over DoQ: %x, %v", m.name, raw, err)
			}
		} else if err != nil {
			t.Errorf("%s over DoQ: %v", m.name, err)
		} else {
			m.wantOutcome(t, raw)
		}
		_ = c.CloseWithError(0, "")
	}
	for status, n := range want {
		if s, q := doh.Stats().Status[status]+doh3.Stats().Status[status], doq.Stats().Status[status]; status != wire.Ignored && (s != 3*n || q != n) {
			t.Errorf("status %d: counted %d times over HTTP, and %d over QUIC, not %d and %d", status, s, q, 3*n, n)
		}
	}
}
