package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestClientsAreToldWhatIsNotAnswered is about the responses that are not the
// name servers' but this server's own.
func TestClientsAreToldWhatIsNotAnswered(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	const (
		edns         = "version 0, flags , size 1232"
		notSupported = "21 Not Supported: "
	)
	tests := []struct {
		name   string
		args   string
		status string
		flags  string
		edns   string
		ede    string // how the one Extended DNS Error begins; "" for none
	}{
		{"class CH", "version.bind. CH TXT", "REFUSED", "qr rd ra", edns, notSupported},
		{"class HS", "www.plain.west. HS A", "REFUSED", "qr rd ra", edns, notSupported},
		{"no recursion desired", "www.plain.west. A +norecurse", "REFUSED", "qr ra", edns, "20 Not Authoritative: "},
		{"EDNS of a later version", "www.plain.west. A +edns=1 +noednsnegotiation", "BADVERS", "qr rd ra", edns, ""},
		{"unknown EDNS option", "www.plain.west. A +ednsopt=65001:abcd", "NOERROR", "qr rd ra", edns, ""},
		{"client subnet", "www.plain.west. A +subnet=192.0.2.0/24", "NOERROR", "qr rd ra", edns, ""},
		{"unknown EDNS flags", "www.plain.west. A +ednsflags=0x7fff", "NOERROR", "qr rd ra", edns, ""},
		{"reserved header bit", "www.plain.west. A +zflag", "NOERROR", "qr rd ra", edns, ""},
		{"no EDNS", "www.plain.west. A +noedns", "NOERROR", "qr rd ra", "", ""},
		{"checking disabled", "www.plain.west. A +cdflag", "NOERROR", "qr rd ra cd", edns, ""},
		{"no authenticated data asked for", "www.signed.west. A +noadflag", "NOERROR", "qr rd ra", edns, ""},
		{"aliases in a circle", "loop.plain.west. A", "SERVFAIL", "qr rd ra", edns, "0 Other: "},
		{"error without EDNS", "loop.plain.west. A +noedns", "SERVFAIL", "qr rd ra", "", ""},
	}
	for _, tt := range tests {
		for _, transport := range []string{"+notcp", "+tcp"} {
			t.Run(tt.name+transport, func(t *testing.T) {
				t.Parallel()
				r := s.ask("dig", "127.0.0.1", transport).one(t, strings.Fields(tt.args)...)
				if r.status != tt.status || r.flags != tt.flags || r.edns != tt.edns {
					t.Errorf("got %s, flags %q, EDNS %q, want %s, %q, %q:\n%s", r.status, r.flags, r.edns, tt.status, tt.flags, tt.edns, r.raw)
				}
				if got := strings.Join(r.ede, "; "); (tt.ede == "") != (got == "") || !strings.HasPrefix(got, tt.ede) {
					t.Errorf("EDE %q, want %q:\n%s", got, tt.ede, r.raw)
				}
				if len(r.other) > 0 {
					t.Errorf("EDNS options that nobody knows were answered: %q", r.other)
				}
				if answered := len(r.sections["ANSWER"]) > 0; answered != (tt.status == "NOERROR") {
					t.Errorf("%d records with %s", len(r.sections["ANSWER"]), r.status)
				}
			})
		}
	}
}

// TestOtherOpcodesAreNotImplemented asks with every opcode that dig knows.
func TestOtherOpcodesAreNotImplemented(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	for _, opcode := range []string{"IQUERY", "STATUS", "NOTIFY", "UPDATE", "6", "15"} {
		for _, transport := range []string{"+notcp", "+tcp"} {
			r := s.ask("dig", "127.0.0.1", transport).one(t, "+opcode="+opcode, "plain.west.", "SOA")
			want := opcode
			if n, err := strconv.Atoi(opcode); err == nil {
				want = fmt.Sprintf("RESERVED%d", n)
			}
			if r.status != "NOTIMP" || r.opcode != want {
				t.Errorf("%s %s: %s %s, want NOTIMP", transport, opcode, r.opcode, r.status)
			}
		}
	}
}

func TestZonesAreNotTransferred(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	out, _ := s.ask("dig", "127.0.0.1").run(t, "plain.west.", "AXFR")
	if !strings.Contains(out, "; Transfer failed.") || strings.Contains(out, "SOA") {
		t.Errorf("dig AXFR printed:\n%s", out)
	}
	out, _ = s.ask("kdig", "::1").run(t, "plain.west.", "AXFR")
	if !strings.Contains(out, "server replied with error 'REFUSED'") || strings.Contains(out, "SOA") {
		t.Errorf("kdig AXFR printed:\n%s", out)
	}
	// An IXFR query has a record in its authority section (RFC 1995 §3).
	for _, transport := range []string{"+notcp", "+tcp"} {
		out, _ = s.ask("kdig", "127.0.0.1", transport).run(t, "plain.west.", "IXFR=0")
		if !strings.Contains(out, "server replied with error 'REFUSED'") || strings.Contains(out, "SOA") {
			t.Errorf("kdig IXFR %s printed:\n%s", transport, out)
		}
	}
}

// TestAnyIsAnsweredWithOneRecord: RFC 8482 §4.2.
func TestAnyIsAnsweredWithOneRecord(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	for _, transport := range []string{"+notcp", "+tcp"} {
		r := s.ask("dig", "127.0.0.1", transport).one(t, "plain.west.", "ANY")
		want := "plain.west.\t0\tIN\tHINFO\t\"RFC8482\" \"\""
		if got := r.texts("ANSWER"); r.status != "NOERROR" || len(got) != 1 || got[0] != want {
			t.Errorf("got %s and %q, want %q", r.status, got, want)
		}
	}
}

// TestFailuresSayWhy asks for names of zones whose servers are out of order in
// different ways.
func TestFailuresSayWhy(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{resolver: "timeout: 1500ms", limits: "udp_discard_timeout: 20s"})
	tests := []struct {
		name, ede string
		says      []string // in the error's text
	}{
		{"www.down.west.", "23 Network Error: ", []string{"down.west.", addrNobody}},
		{"www.silent.west.", "22 No Reachable Authority: ", []string{"silent.west.", addrSilent}},
		{"www.lame.west.", "22 No Reachable Authority: ", []string{"lame.west.", addrNSDZones, "REFUSED"}},
		{"todown.plain.west.", "23 Network Error: ", []string{"down.west.", addrNobody}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, w := range []way{{"dig", "127.0.0.1", false, false}, {"dig", "::1", true, false}, {"kdig", "127.0.0.1", false, true}} {
				r := w.client(s).one(t, tt.name, "A")
				if r.status != "SERVFAIL" || r.flags != "qr rd ra" || len(r.sections["ANSWER"]) != 0 {
					t.Errorf("%v: %s, flags %q, want SERVFAIL", w, r.status, r.flags)
				}
				if len(r.ede) != 1 || !strings.HasPrefix(r.ede[0], tt.ede) {
					t.Errorf("%v: EDE %q, want one %q", w, r.ede, tt.ede)
				}
				for _, says := range tt.says {
					if !strings.Contains(strings.Join(r.ede, ""), says) {
						t.Errorf("%v: EDE %q does not say %q", w, r.ede, says)
					}
				}
			}
		})
	}
}

// TestAnswersThatDoNotFitAreTruncated asks over UDP for answers of different
// sizes, and lets the client offer different sizes.
func TestAnswersThatDoNotFitAreTruncated(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	tests := []struct {
		name, typ string
		args      []string
		truncated bool
		limit     int // octets
	}{
		{"half.big.west.", "TXT", []string{"+bufsize=512"}, true, 512},
		{"half.big.west.", "TXT", []string{"+noedns"}, true, 512},
		{"half.big.west.", "TXT", []string{"+bufsize=100"}, true, 512}, // RFC 6891 §6.2.3: at least 512
		{"half.big.west.", "TXT", []string{"+bufsize=1232"}, false, 1232},
		{"half.big.west.", "TXT", []string{"+bufsize=4096"}, false, 1232},
		{"over.big.west.", "TXT", []string{"+bufsize=1232"}, true, 1232},
		{"over.big.west.", "TXT", []string{"+bufsize=4096"}, true, 1232}, // RFC 9715
		{"many.big.east.", "TXT", []string{"+bufsize=65535"}, true, 1232},
		{"wide.big.east.", "A", []string{"+bufsize=1232"}, true, 1232},
	}
	for _, tt := range tests {
		for _, at := range []string{"127.0.0.1", "::1"} {
			t.Run(fmt.Sprintf("%s %v %s", tt.name, tt.args, at), func(t *testing.T) {
				t.Parallel()
				q := append(slices.Clone(tt.args), tt.name, tt.typ)
				r := s.ask("dig", at, "+ignore").one(t, q...)
				if got := strings.Contains(" "+r.flags+" ", " tc "); got != tt.truncated || r.status != "NOERROR" {
					t.Errorf("%s, flags %q, want truncated: %v", r.status, r.flags, tt.truncated)
				}
				if size := received(t, r); size > tt.limit {
					t.Errorf("%d octets, want at most %d", size, tt.limit)
				}
				tr := ask(t, built.world, question{tt.name, tt.typ}, false)
				if d := difference(r.texts("ANSWER"), texts(tr.answer)); !tt.truncated && d != "" {
					t.Errorf("answer differs:%s", d)
				}
				// Without +ignore the client comes back over TCP.
				out, _ := s.ask("dig", at).run(t, q...)
				if retried := strings.Contains(out, "Truncated, retrying in TCP mode"); retried != tt.truncated {
					t.Errorf("client came back over TCP: %v, want %v", retried, tt.truncated)
				}
				whole := parseResponses(t, out)
				if len(whole) != 1 || difference(whole[0].texts("ANSWER"), texts(tr.answer)) != "" {
					t.Errorf("the whole answer is:\n%s", head(out, 20))
				}
			})
		}
	}
}

// received returns how many octets dig says the response had.
func received(t *testing.T, r *response) int {
	t.Helper()
	_, rest, _ := strings.Cut(r.raw, ";; MSG SIZE  rcvd: ")
	size, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
	if err != nil {
		t.Fatalf("no size in:\n%s", r.raw)
	}
	return size
}

// TestSpellingIsKept: clients compare it with what they asked (draft-vixie-dnsext-dns0x20),
// whether the answer came from a name server or from memory.
func TestSpellingIsKept(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	for _, transport := range []string{"+notcp", "+tcp"} {
		for _, name := range []string{"WwW.PlAiN.wEsT.", "www.plain.west.", "WWW.PLAIN.WEST.", "nOsUcH.pLaIn.WeSt.", "NoSuch.Plain.West."} {
			r := s.ask("dig", "127.0.0.1", transport).one(t, name, "A")
			if want := name + " IN A"; r.question != want {
				t.Errorf("%s: question %q, want %q", transport, r.question, want)
			}
			if r.status == "NOERROR" && strings.Count(r.raw, "\n"+name) != 2 {
				t.Errorf("%s: the answer's two owners are not spelled %s:\n%s", transport, name, r.raw)
			}
		}
	}
}

// TestTTLsAreKept asks twice, so that the second answer is from memory.
func TestTTLsAreKept(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	tests := []struct {
		name, typ string
		most      uint32
	}{
		{"zero.plain.west.", "A", 0},
		{"zero.plain.east.", "TXT", 0},
		{"www.plain.west.", "A", 300},
		{"www.plain.east.", "A", 3600},
		{"long.plain.west.", "A", maxTTL},
	}
	for _, tt := range tests {
		for range 2 {
			r := s.ask("dig", "::1").one(t, tt.name, tt.typ)
			if len(r.sections["ANSWER"]) == 0 {
				t.Errorf("%s %s: no answer", tt.name, tt.typ)
			}
			for _, rr := range r.sections["ANSWER"] {
				if least := leastTTL(tt.most, s.age()); rr.ttl > tt.most || rr.ttl < least {
					t.Errorf("TTL %d, want %d to %d: %s", rr.ttl, least, tt.most, rr.text)
				}
			}
		}
	}
}

// TestOnlyThoseAllowedAreAnswered asks from different addresses.
func TestOnlyThoseAllowedAreAnswered(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{access: "- {prefix: 127.0.0.2/32, action: allow}\n- {prefix: 127.0.0.4/32, action: deny}"})
	for _, transport := range []string{"+notcp", "+tcp"} {
		c := s.ask("dig", "127.0.0.1", transport, "+tries=1", "+time=2")
		if r := c.one(t, "-b", "127.0.0.2", "www.plain.west.", "A"); r.status != "NOERROR" || len(r.sections["ANSWER"]) != 2 {
			t.Errorf("%s: allowed, and told %s", transport, r.status)
		}
		for range 2 { // what is in memory is not for everybody either
			r := c.one(t, "-b", "127.0.0.3", "www.plain.west.", "A")
			if r.status != "REFUSED" || len(r.sections["ANSWER"]) != 0 || len(r.ede) != 1 || !strings.HasPrefix(r.ede[0], "18 Prohibited: ") {
				t.Errorf("%s: not allowed, and told %s, EDE %q, want REFUSED and EDE 18", transport, r.status, r.ede)
			}
		}
	}
	if out, code := s.ask("dig", "127.0.0.1", "+tries=1", "+time=1").run(t, "-b", "127.0.0.4", "www.plain.west.", "A"); code == 0 {
		t.Errorf("denied, and told:\n%s", out)
	}
	if r := s.ask("dig", "::1").one(t, "www.plain.west.", "A"); r.status != "REFUSED" {
		t.Errorf("::1: %s, want REFUSED", r.status)
	}
}

// TestThereIsNoTLS: encrypted transports come later, and must not be there by
// half.
func TestThereIsNoTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{limits: "tcp_message_timeout: 500ms"})
	for _, port := range []int{853, s.port} {
		c := client{"kdig", []string{"@127.0.0.1", "-p", strconv.Itoa(port), "+tls", "+retry=0", "+time=3"}}
		out, code := c.run(t, "www.plain.west.", "A")
		if code == 0 || len(parseResponses(t, out)) != 0 {
			t.Errorf("TLS on port %d is answered:\n%s", port, out)
		}
		if want := "can't connect"; port == 853 && !strings.Contains(out, want) {
			t.Errorf("port %d: kdig does not say %q:\n%s", port, want, out)
		}
	}
	if r := s.ask("kdig", "127.0.0.1", "+tcp").one(t, "www.plain.west.", "A"); r.status != "NOERROR" {
		t.Errorf("after that: %s", r.status)
	}
}

// TestRepliesComeFromTheAddressAsked listens on all addresses. dig does not
// take a reply from another address than the one it asked.
func TestRepliesComeFromTheAddressAsked(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{listen: []string{"0.0.0.0", "::"}})
	for _, at := range []string{"127.0.0.1", "127.0.0.9", "127.200.3.4", "::1"} {
		for _, program := range []string{"dig", "kdig"} {
			for _, transport := range []string{"+notcp", "+tcp"} {
				r := s.ask(program, at, transport).one(t, "www.plain.west.", "A")
				if r.status != "NOERROR" || len(r.sections["ANSWER"]) != 2 {
					t.Errorf("%s %s @%s: %s, %d records", program, transport, at, r.status, len(r.sections["ANSWER"]))
				}
				if strings.Contains(r.raw, "unexpected source") {
					t.Errorf("%s @%s:\n%s", program, at, r.raw)
				}
			}
		}
	}
}

// TestOneConnectionServesManyQuestions keeps a TCP connection open.
func TestOneConnectionServesManyQuestions(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	var qs []question
	for _, a := range answered {
		qs = append(qs, a.question)
	}
	for _, program := range []string{"dig", "kdig"} {
		for i, r := range s.ask(program, "::1", "+tcp", "+keepopen").all(t, qs) {
			if r.status != answered[i].rcode {
				t.Errorf("%s %v: %s, want %s", program, qs[i], r.status, answered[i].rcode)
			}
		}
	}
	s.stop()
	if n := counter(t, s.out.String(), "tcp", "Accepted"); n < 2 || n > 10 {
		t.Errorf("%d connections for 2 runs of %d questions, want 2 or a few", n, len(qs))
	}
}

// counter returns one count of the last line of statistics in a log.
func counter(t *testing.T, log, group, name string) int {
	t.Helper()
	_, line, ok := cutLast(log, "msg=statistics")
	_, counts, found := strings.Cut(line, " "+group+"=\"{")
	_, value, there := strings.Cut(counts, name+":")
	if !ok || !found || !there {
		t.Fatalf("no %s of %s in the log:\n%s", name, group, tail(log, 5))
	}
	n, err := strconv.Atoi(value[:strings.IndexFunc(value, func(r rune) bool { return r < '0' || r > '9' })])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// TestClientsAreToldHowLongTheyMayBeSilent: RFC 7828.
func TestClientsAreToldHowLongTheyMayBeSilent(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{limits: "tcp_idle_timeout: 12s"})
	for _, tt := range []struct{ args, told string }{
		{"+tcp +keepalive", "; TCP KEEPALIVE: 12.0 secs"},
		{"+tcp", ""},
		{"+notcp +keepalive", ""},
	} {
		r := s.ask("dig", "127.0.0.1", strings.Fields(tt.args)...).one(t, "www.plain.west.", "A")
		if got := strings.Join(r.other, ""); r.status != "NOERROR" || got != tt.told {
			t.Errorf("dig %s is told %q, want %q:\n%s", tt.args, got, tt.told, r.raw)
		}
	}
}
