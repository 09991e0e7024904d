package anchor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestParseReadsDSAndDNSKEYRecords(t *testing.T) {
	key := strings.TrimPrefix(ksk2017, ". ")
	for _, test := range []struct {
		name, text string
		want       []uint16
	}{
		{"DS", "Example. 3600 IN DS 12345 13 2 " + strings.Repeat("AB", 32) + "\n", []uint16{12345}},
		{"no TTL and no class", "example. DS 12345 13 2 " + strings.Repeat("ab", 32), []uint16{12345}},
		{"DNSKEY", "example.\t" + key, []uint16{20326}},
		{"comments and several lines", "; the anchors\nexample. IN DS ( 12345 13 2 ; digest:\n" + strings.Repeat("ab", 32) + " )\n\n. " + key + " ; the root's\n", []uint16{12345, 20326}},
		{
			"Unbound's file", "; autotrust trust anchor file\n;;id: . 1\n;;last_queried: 1258962400 ;;Mon Nov 23 08:46:40 2009\n" +
				".\t86400\t" + key + " ;{id = 20326 (ksk), size = 2048b} ;;state=2 [  VALID  ] ;;count=0 ;;lastchange=1258962400 ;;Mon Nov 23 08:46:40 2009\n" +
				".\t86400\t" + strings.TrimPrefix(ksk2024, ". ") + " ;{id = 38696 (ksk), size = 2048b} ;;state=1 [ ADDPEND ] ;;count=3 ;;lastchange=1258962400 ;;Mon Nov 23 08:46:40 2009\n",
			[]uint16{20326},
		},
		{"Unbound's missing key", ". " + key + " ;;state=3 [ MISSING ]\n", []uint16{20326}},
		{"Unbound's revoked keys", "; autotrust trust anchor file\n;;REVOKED\n. " + strings.Replace(key, "257", "385", 1) + " ;;state=4 [ REVOKED ]\n", nil},
	} {
		rrs, err := Parse(strings.NewReader(test.text), "test")
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var got []uint16
		for _, rr := range rrs {
			switch rr := rr.(type) {
			case *dns.DS:
				got = append(got, rr.KeyTag)
			case *dns.DNSKEY:
				got = append(got, rr.KeyTag())
			}
			if name := rr.Header().Name; name != strings.ToLower(name) {
				t.Errorf("%s: the owner %s", test.name, name)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// TestParseSaysWhereAndWhatIsWrong: the file, the line, what was found and what
// was expected.
func TestParseSaysWhereAndWhatIsWrong(t *testing.T) {
	good := "example. IN DS 1 13 2 " + strings.Repeat("ab", 32) + "\n"
	for _, test := range []struct{ text, want string }{
		{"", "anchors: found no record; expected a DS or DNSKEY record"},
		{"; nothing\n", "anchors: found no record; expected"},
		{good + "example. IN A 192.0.2.1\n", "anchors:2: found a record of type A; expected a DS or DNSKEY record"},
		{good + "\n\nexample. IN DS 1 13\n", "anchors:4: dns: bad DS"},
		{"example. IN DS one 13 2 ab\n", "; expected a DS or DNSKEY record"},
		{"example. IN DS 1 13 2 abcd\n", "anchors:1: found a digest of type 2 with 4 digits; expected 64"},
		{good + good + "example. IN DS 1 13 2 (\n" + strings.Repeat("ab", 31) + "\n)\n", "anchors:5: found a digest"},
		{"example. IN DS 1 13 3 " + strings.Repeat("ab", 32), "anchors:1: found the digest type 3; expected 1 (SHA-1), 2 (SHA-256) or 4 (SHA-384)"},
		{"example. CH DS 1 13 2 ab", "found the class CH; expected IN"},
		{"example. IN DNSKEY 257 2 13 AAAA", "found the protocol 2; expected 3"},
		{"example. IN DNSKEY 1 3 13 AAAA", "found the flags 1, which are not those of a zone's key; expected 257"},
		{"$INCLUDE /etc/passwd\n", "anchors:1: dns: "},
		{"garbage", "; expected a DS or DNSKEY record"},
		{strings.Repeat(good, maxRecords+1), "anchors:1001: found more than 1000 records"},
		{strings.Repeat("; comment\n", maxOctets/10+1), "anchors: larger than 1048576 octets"},
	} {
		_, err := Parse(strings.NewReader(test.text), "anchors")
		if err == nil || !strings.HasPrefix(err.Error(), "anchors:") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.40q: got %v, want %q", test.text, err, test.want)
		}
	}
}

func TestParseRecordTakesOne(t *testing.T) {
	good := "example. IN DS 1 13 2 " + strings.Repeat("ab", 32)
	if rr, err := ParseRecord(good); err != nil || rr.Header().Name != "example." {
		t.Errorf("got %v, %v", rr, err)
	}
	for text, want := range map[string]string{
		"":                                 "found no record",
		"example.":                         "expected a DS or DNSKEY record",
		good + "\n" + good:                 "found more than one record",
		"example. IN DNSKEY 385 3 13 AAAA": "revoked",
	} {
		if _, err := ParseRecord(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestParseFileNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.key")
	if _, err := ParseFile(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte(ksk2017+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if rrs, err := ParseFile(path); err != nil || len(rrs) != 1 {
		t.Errorf("got %v, %v", rrs, err)
	}
}

// FuzzParse looks for text that makes it panic, or pass what it must not.
func FuzzParse(f *testing.F) {
	f.Add(ksk2017)
	f.Add("example. IN DS 1 13 2 abcd ;;state=4\n")
	f.Fuzz(func(t *testing.T, text string) {
		rrs, err := Parse(strings.NewReader(text), "fuzz")
		if err != nil && !strings.HasPrefix(err.Error(), "fuzz:") {
			t.Errorf("the error names no file: %v", err)
		}
		if _, err := New(Options{Records: rrs}); err != nil && !strings.Contains(err.Error(), "more than") && !strings.Contains(err.Error(), "zones") {
			t.Errorf("parsed and then refused: %v", err)
		}
	})
}
