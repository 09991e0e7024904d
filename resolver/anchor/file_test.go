package anchor

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// learned returns a state with a key in each state, and its keys.
func learned(t *testing.T) State {
	t.Helper()
	s := State{Zone: example}
	for state := AddPend; state <= Removed; state++ {
		k := Key{DNSKEY: newPair(t, 257).DNSKEY, State: state, Since: t0}
		if state == AddPend || state == Revoked {
			k.Until = t0.Add(30 * day)
		}
		s.Keys = append(s.Keys, k)
	}
	return s
}

func TestStateFileIsReadBack(t *testing.T) {
	s := learned(t)
	path := statePath(filepath.Join(t.TempDir(), "made", "when needed"), example)
	content, err := encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeState(path, content, false); err != nil {
		t.Fatal(err)
	}
	keys, err := readState(path, example)
	if err != nil || len(keys) != len(s.Keys) {
		t.Fatalf("got %v, %v", keys, err)
	}
	for i, k := range keys {
		want := s.Keys[i]
		if !sameKey(k.DNSKEY, want.DNSKEY) || k.State != want.State || !k.Since.Equal(want.Since) || !k.Until.Equal(want.Until) {
			t.Errorf("got %+v, want %+v", k, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	if keys, err := readState(path+"x", example); keys != nil || err != nil {
		t.Errorf("no file: %v, %v", keys, err)
	}
}

// TestBadStateFilesAreToldAndNotUsed has the configured anchors stand in for
// what a bad file would have said, and the first good state keep the bad file
// beside itself.
func TestBadStateFilesAreToldAndNotUsed(t *testing.T) {
	good, err := encode(learned(t))
	if err != nil {
		t.Fatal(err)
	}
	configured := newPair(t, 257)
	replace := func(what, by string) []byte {
		b := bytes.Replace(good, []byte(what), []byte(by), 1)
		if bytes.Equal(b, good) {
			t.Fatalf("no %q in the file", what)
		}
		return b
	}
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":           {nil, "it ends in the middle"},
		"truncated":       {good[:len(good)/2], "it ends in the middle"},
		"cut at its end":  {good[:len(good)-3], "it ends in the middle"},
		"zeros":           {make([]byte, 512), "not a state of trust anchors"},
		"something else":  {[]byte(ksk2017), "not a state of trust anchors"},
		"two":             {append(bytes.Clone(good), good...), "something follows its end"},
		"a later version": {replace(`"version": 1`, `"version": 2`), "found version 2; expected 1"},
		"unknown key":     {replace(`"keys"`, `"newkeys"`), "unknown field"},
		"another zone":    {replace(`"zone": "example."`, `"zone": "."`), `found the state of zone "."; expected that of "example."`},
		"unknown state":   {replace(`"missing"`, `"trusted"`), `keys[2]: found the state "trusted"`},
		"start":           {replace(`"missing"`, `"start"`), `keys[2]: found the state "start"`},
		"changed key":     {replace(`257 3 13`, `256 3 13`), "keys[0]: found the tag"},
		"revoked flag":    {replace(`257 3 13`, `385 3 13`), "keys[0]: found the flags 385"},
		"no key":          {replace(`257 3 13`, `257 3 13 ; `), "keys[0]: "},
		"no since":        {replace(`"since": "2026-01-31T12:00:00Z"`, `"since": "0001-01-01T00:00:00Z"`), "no time in since"},
		"no until":        {replace(`"valid"`, `"addpend"`), "keys[1]: expected a time in until"},
		"too large":       {bytes.Repeat([]byte(" "), maxState+1), "larger than"},
		"too many keys":   {fmt.Appendf(nil, `{"version":1,"zone":"example.","keys":[%s{}]}`, strings.Repeat("{},", 60)), "found 61 keys"},
		"one key twice":   {[]byte(strings.Replace(string(good), `"keys": [`, `"keys": [`+firstKey(good)+",", 1)), "keys[1]: found a key again"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := statePath(dir, example)
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			var log buffer
			a, err := New(Options{Records: []dns.RR{configured.ds()}, Directory: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, path) || !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), test.want) {
				t.Errorf("the log says %q, want %q and the file", got, test.want)
			}
			if s, _ := a.State(example); !trusts(s, configured) || len(s.Keys) != 0 {
				t.Errorf("got %v", states(s))
			}
			tr := tracker(t, a)
			s, _ := a.State(example)
			tr.save(s)
			if _, err := readState(path, example); err != nil {
				t.Errorf("the new file: %v", err)
			}
			if kept, err := os.ReadFile(path + ".bad"); err != nil || !bytes.Equal(kept, test.content) {
				t.Errorf("the bad file was not kept: %v", err)
			}
		})
	}
}

// firstKey returns the first key in a state file.
func firstKey(file []byte) string {
	_, rest, _ := strings.Cut(string(file), `"keys": [`)
	key, _, _ := strings.Cut(rest, "}")
	return key + "}"
}

// TestCrashBetweenWriteAndRenameLeavesTheOldState stops where a crash could.
func TestCrashBetweenWriteAndRenameLeavesTheOldState(t *testing.T) {
	path := statePath(t.TempDir(), example)
	s := learned(t)
	content, err := encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeState(path, content, false); err != nil {
		t.Fatal(err)
	}
	for _, half := range []int{0, 10, len(content)} {
		if err := os.WriteFile(path+".tmp", content[:half], 0o600); err != nil {
			t.Fatal(err)
		}
		if keys, err := readState(path, example); err != nil || len(keys) != len(s.Keys) {
			t.Fatalf("with %d octets of the new file: %v, %v", half, keys, err)
		}
	}
	if err := writeState(path, content, false); err != nil {
		t.Errorf("after the crash: %v", err)
	}
	if _, err := os.Stat(path + ".tmp"); err == nil {
		t.Error("what the crash left is still there")
	}
}

func TestStatePathsAreDistinctAndStayInTheDirectory(t *testing.T) {
	seen := map[string]string{}
	for _, zone := range []string{
		".", "root.", "example.", "a.example.", `a\.example.`, `a/\.\./\.\./b.example.`, `\000.example.`, `%2f.example.`, `/.example.`, "zone-example.",
		strings.Repeat(strings.Repeat("a", 60)+".", 4), strings.Repeat(strings.Repeat("b", 60)+".", 4), strings.Repeat(strings.Repeat(`\001`, 60)+".", 4),
	} {
		path := statePath("/state", wire.MustParseName(zone))
		if dir, name := filepath.Split(path); dir != "/state/" || len(name) > 230 {
			t.Errorf("%s: %s", zone, path)
		}
		if other, again := seen[path]; again {
			t.Errorf("%s and %s are both in %s", zone, other, path)
		}
		seen[path] = zone
	}
	if got := statePath("/state", example); got != "/state/zone-example.json" {
		t.Errorf("got %s", got)
	}
}

// TestAnchorsStayRevokedAfterARestart, although the configuration has them.
func TestAnchorsStayRevokedAfterARestart(t *testing.T) {
	dir := t.TempDir()
	old, next := newPair(t, 257), newPair(t, 257)
	opt := Options{Records: []dns.RR{old.ds()}, Directory: dir}
	a, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	tr := tracker(t, a)
	now := time.Now()
	for _, p := range []Probe{
		facts([]pair{old, next}, []pair{old}),
		facts([]pair{old.revoked(), next}, []pair{old.revoked()}),
	} {
		s, _ := a.learn(example, p, now)
		tr.save(s)
	}
	if a, err = New(opt); err != nil {
		t.Fatal(err)
	}
	if got, ok := a.Closest(example); ok && got.Zone == example {
		t.Errorf("still trusted: %v", got)
	}
	s, _ := a.State(example)
	if got := states(s); got[old.KeyTag()] != Revoked || got[next.KeyTag()] != AddPend {
		t.Errorf("got %v", got)
	}
	// A new anchor in the configuration starts the zone again, and the key that
	// waits needs to wait no more when it is the operator who names it.
	opt.Records = append(opt.Records, next.ds())
	if a, err = New(opt); err != nil {
		t.Fatal(err)
	}
	if s, _ = a.State(example); !trusts(s, next) || trusts(s, old) || states(s)[next.KeyTag()] != Valid {
		t.Errorf("got %v", states(s))
	}
}
