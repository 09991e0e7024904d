package rpl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shirube/internal/rrset"
)

// FuzzRead reads anything. What is a scenario can be sent, and is like itself.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.rpl")
	if err != nil || len(files) == 0 {
		f.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("server:\nlocal-data: 'a' \"b\"\nTEMPFILE_NAME x\nTEMPFILE_CONTENTS x\nTEMPFILE_END\nAUTOTRUST_FILE y\nAUTOTRUST_END\nCOMMANDLINE -d\nCONFIG_END\n" +
		"SCENARIO_BEGIN x\nSTEP 1 FLUSH_MESSAGE a IN A\nSTEP 2 CHECK_TEMPFILE\nFILE_END\nSTEP 3 QUERY\nENTRY_BEGIN\nMATCH all ede=1 serial=2\nREPLY DO CO\n" +
		"SECTION ANSWER\n$ORIGIN a.\na ANY A \\# 3 010203\na NSEC b NSEC A\na TYPE65280 \\# 0\nEXTRA_PACKET\nRAW\n00\nHEX_EDNSDATA_BEGIN\n00030000\nHEX_EDNSDATA_END\nENTRY_END\nSCENARIO_END\n")
	f.Fuzz(func(t *testing.T, text string) {
		sc, err := Read("fuzz", strings.NewReader(text))
		if err != nil {
			if sc != nil || !strings.HasPrefix(err.Error(), "fuzz:") {
				t.Fatalf("%v, error %v", sc, err)
			}
			return
		}
		for _, r := range sc.Ranges {
			for _, e := range r.Entries {
				checkAgainstItself(t, sc, e)
			}
		}
		for _, st := range sc.Steps {
			if st.Entry != nil {
				checkAgainstItself(t, sc, st.Entry)
			}
		}
	})
}

// checkAgainstItself packs the first message of e, unpacks it, and compares it
// with e.
func checkAgainstItself(t *testing.T, sc *Scenario, e *Entry) {
	t.Helper()
	p := &e.Packets[0]
	octets, err := p.message(sc.Dialect, nil).Pack()
	if err != nil {
		return // with its OPT record it is too long
	}
	m, err := rrset.Unpack(octets)
	if err != nil && p.Options != nil {
		return // there are options that can be sent, but not understood
	}
	if err != nil {
		t.Fatalf("line %d: what was packed does not unpack: %v: %x", e.Line, err, octets)
	}
	same := *e
	same.Match.Fields &= Opcode | QType | QName | QCase | Subdomain | Flags | RCode | Question
	c := comparison{entry: &same, want: p, got: m}
	if s := c.differs(); s != "" && p.Rcode <= 0xFFF {
		t.Errorf("line %d: the entry is not like itself: %s\n%v\n%v", e.Line, s, p.Msg, m)
	}
}

// FuzzUnpack unpacks anything.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("\x00\x00\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x05\x01\x02\x03\x04\x05"))
	f.Add([]byte("\x00\x00\x84\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		m, err := rrset.Unpack(octets)
		if (m == nil) != (err != nil) {
			t.Errorf("%v, error %v", m, err)
		}
	})
}
