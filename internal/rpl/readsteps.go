package rpl

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// maxElapse is the longest time that a step may let pass: more would not be a
// scenario, and does not fit into what time is counted in.
const maxElapse = 10 * 365 * 24 * time.Hour

// readRange reads a range; w is what follows RANGE_BEGIN. Deckard may have an
// address on the same line.
func (r *reader) readRange(w []string) error {
	if len(w) < 2 || len(w) > 3 {
		return errors.New("RANGE_BEGIN from to")
	}
	rng := Range{Line: r.line}
	var err error
	if rng.From, err = strconv.Atoi(w[0]); err != nil {
		return fmt.Errorf("RANGE_BEGIN: %.40q is no number", w[0])
	}
	if rng.To, err = strconv.Atoi(w[1]); err != nil {
		return fmt.Errorf("RANGE_BEGIN: %.40q is no number", w[1])
	}
	if len(w) == 3 {
		if err := rng.address(w[2]); err != nil {
			return err
		}
	}
	for r.nextFull() {
		switch w := words(r.text); w[0] {
		case "ADDRESS":
			if len(w) != 2 {
				return errors.New("ADDRESS and one address")
			}
			if err := rng.address(w[1]); err != nil {
				return err
			}
		case "RANGE_END":
			r.out.Ranges = append(r.out.Ranges, rng)
			return nil
		default:
			e, err := r.entry()
			if err != nil {
				return err
			}
			rng.Entries = append(rng.Entries, e)
		}
	}
	return r.ended("RANGE_END")
}

func (r *Range) address(text string) error {
	addr, err := parseAddr(text)
	if err != nil {
		return err
	}
	r.Addrs = append(r.Addrs, addr)
	return nil
}

// parseAddr reads an address, with or without Unbound's @port.
func parseAddr(text string) (netip.Addr, error) {
	host, _, _ := strings.Cut(text, "@")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ADDRESS: %.80q is none", text)
	}
	return addr.WithZone(""), nil
}

// kinds are the steps by their names.
var kinds = map[string]Kind{
	"NOTHING": Nothing, "QUERY": Query, "CHECK_ANSWER": CheckAnswer, "CHECK_OUT_QUERY": CheckOutQuery, "REPLY": Reply,
	"TIMEOUT": Timeout, "ERROR": Error, "TIME_PASSES": TimePasses, "TRAFFIC": Traffic, "FLUSH_MESSAGE": FlushMessage,
	"CHECK_SENT": CheckSent, "CHECK_TIME": CheckTime,

	"CHECK_AUTOTRUST": Inside, "CHECK_TEMPFILE": Inside, "ASSIGN": Inside, "INFRA_RTT": Inside, "EXPIRE_MESSAGE": Inside,
}

// step reads a step; w is what follows STEP.
func (r *reader) step(w []string) error {
	if len(w) < 2 {
		return errors.New("STEP number kind")
	}
	st := Step{Line: r.line, Text: strings.Join(w, " ")}
	var err error
	if st.Number, err = strconv.Atoi(w[0]); err != nil {
		return fmt.Errorf("STEP: %.40q is no number", w[0])
	}
	if n := len(r.out.Steps); n > 0 && r.out.Steps[n-1].Number >= st.Number {
		return fmt.Errorf("step %d comes after step %d", st.Number, r.out.Steps[n-1].Number)
	}
	var ok bool
	if st.Kind, ok = kinds[w[1]]; !ok {
		return fmt.Errorf("STEP: unknown kind %.40q", w[1])
	}
	if err := r.stepArgs(&st, w[1], w[2:]); err != nil {
		return err
	}
	r.out.Steps = append(r.out.Steps, st)
	return nil
}

// stepArgs reads the rest of a step, on its line and below.
func (r *reader) stepArgs(st *Step, kind string, w []string) (err error) {
	switch st.Kind {
	case Query, CheckAnswer, CheckOutQuery, Reply:
		if err := st.address(w); err != nil {
			return err
		}
		if !r.nextFull() {
			return r.ended("ENTRY_BEGIN")
		}
		st.Entry, err = r.entry()
	case Timeout, Error:
		err = st.address(w)
	case TimePasses:
		if len(w) > 0 && w[0] == "EVAL" { // a macro, over what only Unbound knows
			st.Kind = Inside
			return nil
		}
		st.Elapse, err = seconds(w, "ELAPSE")
	case CheckTime:
		st.Elapse, err = seconds(w, "WITHIN")
	case FlushMessage:
		st.Question, err = r.question(strings.Join(w, " "))
	case CheckSent:
		st.Sent, err = r.sent()
	case Inside:
		if kind == "CHECK_AUTOTRUST" || kind == "CHECK_TEMPFILE" {
			err = r.skipTo("FILE_END")
		}
	}
	return err
}

// address reads "ADDRESS ip", which may be missing.
func (st *Step) address(w []string) (err error) {
	switch {
	case len(w) == 0:
		return nil
	case len(w) != 2 || w[0] != "ADDRESS":
		return fmt.Errorf("ADDRESS and one address expected, not %.40q", w[0])
	}
	st.Addr, err = parseAddr(w[1])
	return err
}

// seconds reads "word n".
func seconds(w []string, word string) (time.Duration, error) {
	if len(w) != 2 || w[0] != word {
		return 0, fmt.Errorf("%s and a number of seconds expected", word)
	}
	n, err := strconv.ParseFloat(w[1], 64)
	if err != nil || math.IsNaN(n) || n < 0 || n > maxElapse.Seconds() {
		return 0, fmt.Errorf("%s: %.40q is no number of seconds, or too many", word, w[1])
	}
	return time.Duration(math.Round(n*1e6)) * time.Microsecond, nil
}

// sent reads lines up to SENT_END.
func (r *reader) sent() ([]string, error) {
	sent := []string{}
	for r.nextFull() {
		w := words(r.text)
		if w[0] == "SENT_END" {
			return sent, nil
		}
		if len(w) < 3 {
			return nil, errors.New("address, name and type of a query expected")
		}
		sent = append(sent, strings.Join(w, " "))
	}
	return nil, r.ended("SENT_END")
}

// skipTo skips lines up to end.
func (r *reader) skipTo(end string) error {
	for r.next() {
		if r.text == end {
			return nil
		}
	}
	return r.ended(end)
}

// question reads "name [class] type", in either order.
func (r *reader) question(text string) (dns.Question, error) {
	w := words(text)
	if len(w) < 2 || len(w) > 3 {
		return dns.Question{}, fmt.Errorf("name, class and type of a question expected, not %.80q", text)
	}
	q := dns.Question{Name: w[0], Qclass: dns.ClassINET}
	if !dns.IsFqdn(q.Name) {
		q.Name += "." + strings.TrimPrefix(r.origin, ".")
	}
	if name, ok := asUnpacked(q.Name); ok {
		q.Name = name
	} else {
		return dns.Question{}, fmt.Errorf("%.300q is no name", w[0])
	}
	for _, word := range w[1:] {
		if class, ok := dns.StringToClass[strings.ToUpper(word)]; ok && len(w) == 3 && word == w[1] {
			q.Qclass = class
		} else if typ, ok := typeOf(word); ok && q.Qtype == 0 {
			q.Qtype = typ
		} else {
			return dns.Question{}, fmt.Errorf("%.40q is no class or type", word)
		}
	}
	return q, nil
}

// asUnpacked returns name with the escapes that it has in a message that was
// unpacked, so that the two can be compared.
func asUnpacked(name string) (string, bool) {
	var buf [wire.MaxNameLen]byte
	if _, err := dns.PackDomainName(name, buf[:], 0, nil, false); err != nil {
		return "", false
	}
	name, _, err := dns.UnpackDomainName(buf[:], 0)
	return name, err == nil
}

// typeOf reads the mnemonic of a type, or TYPEn (RFC 3597 §5).
func typeOf(word string) (uint16, bool) {
	word = strings.ToUpper(word)
	if typ, ok := dns.StringToType[word]; ok {
		return typ, true
	}
	if digits, ok := strings.CutPrefix(word, "TYPE"); ok {
		n, err := strconv.ParseUint(digits, 10, 16)
		return uint16(n), err == nil
	}
	return 0, false
}
