package wire

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// malformed is a file of testdata/malformed.
type malformed struct {
	name string // of the file, without its ending
	want string
	msg  []byte
}

// readMalformed returns the messages of testdata/malformed, which its README
// describes.
func readMalformed(t testing.TB) []malformed {
	t.Helper()
	files, err := filepath.Glob("testdata/malformed/*.hex")
	if err != nil {
		t.Fatal(err)
	}
	var all []malformed
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := malformed{name: strings.TrimSuffix(filepath.Base(file), ".hex")}
		var digits, why strings.Builder
		for i, line := range strings.Split(string(text), "\n") {
			comment, isComment := strings.CutPrefix(line, "#")
			switch {
			case i == 0:
				m.want = strings.TrimPrefix(comment, " want: ")
			case isComment:
				why.WriteString(comment)
			default:
				digits.WriteString(strings.Join(strings.Fields(line), ""))
			}
		}
		if m.msg, err = hex.DecodeString(digits.String()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if !strings.Contains(why.String(), "RFC ") && !strings.Contains(why.String(), "CVE-") {
			t.Errorf("%s does not say what is wrong, and why", file)
		}
		all = append(all, m)
	}
	return all
}

func TestParseTurnsAwayMalformedMessages(t *testing.T) {
	wants := map[string]Status{"ignored": Ignored, "formerr": Malformed, "notimp": UnsupportedOpcode, "badvers": UnsupportedVersion}
	rcodes := map[string]Rcode{"formerr": FormErr, "notimp": NotImp, "badvers": BadVers}
	all := readMalformed(t)
	if len(all) < 40 {
		t.Fatalf("testdata/malformed has %d messages", len(all))
	}
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			want, ok := wants[m.want]
			if !ok {
				t.Fatalf("want: %q is unknown", m.want)
			}
			var q Query
			if got := q.Parse(m.msg); got != want {
				t.Fatalf("Parse says %d, want %d (%s)", got, want, m.want)
			}
			if want == Ignored {
				return
			}
			reply := AppendHeader(nil, m.msg, rcodes[m.want])
			if want == UnsupportedVersion {
				q.Limit = MinUDPSize
				reply = AppendOPT(AppendReply(nil, &q, BadVers), 0, &q, 1232, BadVers)
			}
			var r dns.Msg
			if err := r.Unpack(reply); err != nil {
				t.Fatalf("the answer %x: %v", reply, err)
			}
			id, opcode := uint16(m.msg[0])<<8|uint16(m.msg[1]), int(m.msg[2]>>3&0xF)
			if !r.Response || r.Id != id || r.Opcode != opcode || r.Rcode != int(rcodes[m.want]) {
				t.Errorf("the answer is %v", r.MsgHdr)
			}
		})
	}
}

// TestParseTurnsAwayEveryCutOfAQuery holds because a section that is announced
// has to be there whole.
func TestParseTurnsAwayEveryCutOfAQuery(t *testing.T) {
	msg := fullQuery
	var q Query
	for n := range len(msg) {
		want := Malformed
		if n < HeaderLen {
			want = Ignored
		}
		if got := q.Parse(msg[:n:n]); got != want {
			t.Errorf("the first %d octets of %d: Parse says %d, want %d", n, len(msg), got, want)
		}
	}
	if got := q.Parse(msg); got != OK {
		t.Errorf("all of it: Parse says %d", got)
	}
}
