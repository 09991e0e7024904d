package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestFoldingTouchesTheLettersOfASCIIOnly(t *testing.T) {
	for c := range 256 {
		want := byte(c)
		if c >= 'A' && c <= 'Z' {
			want += 'a' - 'A'
		}
		// Eight at a time, with the octet in each place and neighbours that a
		// carry would show in, and then one by one.
		for place := range 8 {
			for _, beside := range []byte{0, 0x7F, 0x80, 0xFF} {
				in := bytes.Repeat([]byte{beside}, 8)
				in[place] = byte(c)
				out := bytes.Clone(in)
				out[place] = want
				if got := AppendFolded(nil, in); !bytes.Equal(got, out) {
					t.Fatalf("AppendFolded(%x) = %x, want %x", in, got, out)
				}
			}
		}
		if got := AppendFolded(nil, []byte{byte(c)}); got[0] != want {
			t.Fatalf("AppendFolded(%x) = %x, want %x", c, got, want)
		}
	}
}

func TestAppendFoldedLeavesWhatIsThere(t *testing.T) {
	in := []byte("\x03WWW\x07EXAMPLE\x00")
	got := AppendFolded([]byte("ABC"), in)
	if string(got) != "ABC\x03www\x07example\x00" {
		t.Errorf("AppendFolded = %q", got)
	}
	if string(in) != "\x03WWW\x07EXAMPLE\x00" {
		t.Errorf("AppendFolded changed what it read to %q", in)
	}
}

func TestEqualFoldComparesWithoutRegardToCase(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"\x00", "\x00", true},
		{"\x03wWw\x00", "\x03WwW\x00", true},
		{"\x03www\x07eXample\x03com\x00", "\x03www\x07exAmple\x03COM\x00", true},
		{"\x03www\x07example\x03com\x00", "\x03www\x07exbmple\x03com\x00", false},
		{"\x03www\x00", "\x03wwx\x00", false},
		{"\x03www\x00", "\x03www", false},
		{"\x01a\x00", "\x02aa\x00", false},
		{"\x01@\x00", "\x01`\x00", false}, // beside 'A' and 'a'
		{"\x01[\x00", "\x01{\x00", false}, // beside 'Z' and 'z'
		{"\x02\xC3\x84\x00", "\x02\xC3\xA4\x00", false},
	} {
		if got := EqualFold([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("EqualFold(%q, %q) = %v", c.a, c.b, got)
		}
	}
}

func TestEqualFoldIsEqualityOfTheFolded(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 5000 {
		a := []byte(randomName(rng))
		b := bytes.Clone(a)
		for i := range b { // another spelling, and in half of the runs a small change
			if b[i] >= 'a' && b[i] <= 'z' && rng.IntN(2) == 0 {
				b[i] -= 'a' - 'A'
			}
		}
		if rng.IntN(2) == 0 {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		want := bytes.Equal(AppendFolded(nil, a), AppendFolded(nil, b))
		if got := EqualFold(a, b); got != want {
			t.Fatalf("EqualFold(%q, %q) = %v, want %v", a, b, got, want)
		}
	}
}

func TestFoldingAllocatesNothing(t *testing.T) {
	a, b := []byte("\x03www\x07eXample\x03com\x00"), []byte("\x03www\x07exAmple\x03COM\x00")
	var buf [MaxNameLen]byte
	same := true
	if allocs := testing.AllocsPerRun(100, func() {
		same = same && EqualFold(a, b) && len(AppendFolded(buf[:0], a)) == len(a)
	}); allocs != 0 || !same {
		t.Errorf("folding allocates %v times; equal: %v", allocs, same)
	}
}

func BenchmarkAppendFolded(b *testing.B) {
	name := []byte("\x03wWw\x07eXample\x03CoM\x00")
	var buf [MaxNameLen]byte
	for b.Loop() {
		AppendFolded(buf[:0], name)
	}
}

func BenchmarkEqualFold(b *testing.B) {
	x, y := []byte("\x03wWw\x07eXample\x03CoM\x00"), []byte("\x03www\x07example\x03com\x00")
	for b.Loop() {
		if !EqualFold(x, y) {
			b.Fatal("not equal")
		}
	}
}
