package anchor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// The state of a zone's keys is a JSON file of its own in the state directory,
// `root.json` for the root and `zone-example.com.json` for others:
//
//	{
//	  "version": 1,
//	  "zone": ".",
//	  "keys": [
//	    {
//	      "tag": 20326,                             for people; it follows from the key
//	      "dnskey": "257 3 8 AwEAAaz/…",            never with the REVOKE flag
//	      "state": "valid",                         as [KeyState] says
//	      "since": "2026-01-31T12:00:00Z",
//	      "until": "2026-03-02T12:00:00Z"           of addpend and revoked: the end of the hold-down time
//	    }
//	  ]
//	}
//
// It is replaced as a whole: after a crash it is the old one or the new one. A
// file that is anything else is not used.
const fileVersion = 1

// maxState is how many octets a state file may have: as many keys as there may
// be take half of it.
const maxState = 128 << 10

// maxFileName is where a zone's name is replaced by its hash: file systems take
// 255 octets.
const maxFileName = 200

type fileState struct {
	Version int       `json:"version"`
	Zone    string    `json:"zone"`
	Keys    []fileKey `json:"keys"`
}

type fileKey struct {
	Tag    uint16     `json:"tag"`
	DNSKEY string     `json:"dnskey"`
	State  string     `json:"state"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"`
}

// statePath returns the file of a zone in dir.
func statePath(dir string, zone wire.Name) string {
	if zone == wire.Root {
		return filepath.Join(dir, "root.json")
	}
	var b strings.Builder
	for _, c := range []byte(strings.TrimSuffix(zone.String(), ".")) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	name := b.String()
	if len(name) > maxFileName {
		sum := sha256.Sum256([]byte(zone))
		name = "%" + hex.EncodeToString(sum[:])
	}
	return filepath.Join(dir, "zone-"+name+".json")
}

// encode returns the content of the file of s.
func encode(s State) ([]byte, error) {
	f := fileState{Version: fileVersion, Zone: s.Zone.String(), Keys: []fileKey{}}
	for _, k := range s.Keys {
		out := fileKey{
			Tag:    k.DNSKEY.KeyTag(),
			DNSKEY: fmt.Sprintf("%d %d %d %s", k.DNSKEY.Flags, k.DNSKEY.Protocol, k.DNSKEY.Algorithm, k.DNSKEY.PublicKey),
			State:  k.State.String(),
			Since:  k.Since.UTC().Truncate(time.Second),
		}
		if !k.Until.IsZero() {
			until := k.Until.UTC().Truncate(time.Second)
			out.Until = &until
		}
		f.Keys = append(f.Keys, out)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

// readState returns the keys in the state file of zone; none if there is no
// file.
func readState(path string, zone wire.Name) ([]Key, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(f, maxState+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > maxState:
		return nil, fmt.Errorf("larger than %d octets", maxState)
	}
	return decode(content, zone)
}

// decode is the inverse of encode.
func decode(content []byte, zone wire.Name) ([]Key, error) {
	var f fileState
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends in the middle")
		}
		return nil, fmt.Errorf("not a state of trust anchors: %w", err)
	}
	switch {
	case f.Version != fileVersion:
		return nil, fmt.Errorf("found version %d; expected %d", f.Version, fileVersion)
	case d.More():
		return nil, errors.New("not a state of trust anchors: something follows its end")
	case f.Zone != zone.String():
		return nil, fmt.Errorf("found the state of zone %q; expected that of %q", f.Zone, zone)
	case len(f.Keys) > maxKeys+maxConfigured:
		return nil, fmt.Errorf("found %d keys; expected at most %d", len(f.Keys), maxKeys+maxConfigured)
	}
	u := update{}
	for i, in := range f.Keys {
		k, err := in.key(zone)
		switch {
		case err != nil:
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		case u.find(k.DNSKEY) >= 0:
			return nil, fmt.Errorf("keys[%d]: found a key again", i)
		}
		u.Keys = append(u.Keys, k)
	}
	return u.Keys, nil
}

// key returns the key that in describes.
func (in fileKey) key(zone wire.Name) (Key, error) {
	rr, err := ParseRecord(zone.String() + " IN DNSKEY " + strings.ReplaceAll(in.DNSKEY, "\n", " "))
	if err != nil {
		return Key{}, err
	}
	dnskey, ok := rr.(*dns.DNSKEY)
	if !ok {
		return Key{}, errExpected
	}
	state := AddPend
	for ; int(state) < len(keyStateNames) && keyStateNames[state] != in.State; state++ {
	}
	switch {
	case int(state) == len(keyStateNames):
		return Key{}, fmt.Errorf("found the state %q; expected one of %s", in.State, strings.Join(keyStateNames[AddPend:], ", "))
	case in.Tag != dnskey.KeyTag():
		return Key{}, fmt.Errorf("found the tag %d beside a key whose tag is %d", in.Tag, dnskey.KeyTag())
	case in.Since.IsZero():
		return Key{}, errors.New("found no time in since")
	case (in.Until != nil) != (state == AddPend || state == Revoked):
		return Key{}, fmt.Errorf("expected a time in until with addpend and revoked only; found %s", state)
	}
	k := Key{DNSKEY: dnskey, State: state, Since: in.Since}
	if in.Until != nil {
		k.Until = *in.Until
	}
	return k, nil
}

// writeState replaces the file at path. A file that is foreign is kept beside
// it, for people to look at.
func writeState(path string, content []byte, foreign bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".tmp" // one, so that crashes leave no more than one
	if err := writeSynced(temp, content); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	if foreign {
		if err := os.Rename(path, path+".bad"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeSynced writes a file, to the disk.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir brings the names in a directory to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
