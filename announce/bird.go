package announce

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// BIRDOptions configures a [BIRD].
type BIRDOptions struct {
	File     string // that BIRD includes
	Socket   string // BIRD's control socket
	Protocol string // what the names of the static protocols begin with
	Attributes
}

// BIRD is a [Driver] that writes routes into a file which BIRD includes, as two
// static protocols, and has BIRD configure itself, as birdc does.
type BIRD struct {
	opt     BIRDOptions
	applied []byte // what BIRD has taken
}

// NewBIRD returns a BIRD. It writes nothing yet.
func NewBIRD(opt BIRDOptions) *BIRD { return &BIRD{opt: opt} }

// Peers implements [Driver]: they are BIRD's.
func (b *BIRD) Peers() []Peer { return nil }

// Close implements [Driver].
func (b *BIRD) Close() error { return nil }

// Apply implements [Driver].
func (b *BIRD) Apply(ctx context.Context, routes []Route) error {
	text := b.text(routes)
	if bytes.Equal(text, b.applied) {
		return nil
	}
	b.applied = nil
	before, err := os.ReadFile(b.opt.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bird: %w", err)
	}
	if !bytes.Equal(before, text) {
		if err := replace(b.opt.File, text); err != nil {
			return fmt.Errorf("bird: %w", err)
		}
	}
	if err := b.configure(ctx); err != nil {
		return fmt.Errorf("bird: %s: %w", b.opt.Socket, err)
	}
	b.applied = text
	return nil
}

// text returns the file.
func (b *BIRD) text(routes []Route) []byte {
	var t strings.Builder
	t.WriteString("# Written by shirube-announce: changes are lost.\n")
	for _, family := range []struct {
		suffix, channel string
		is4             bool
	}{{"4", "ipv4", true}, {"6", "ipv6", false}} {
		fmt.Fprintf(&t, "protocol static %s%s {\n\t%s;\n", b.opt.Protocol, family.suffix, family.channel)
		for _, r := range routes {
			if r.How != Withdrawn && r.Prefix.Addr().Is4() == family.is4 {
				t.WriteString(b.route(r))
			}
		}
		t.WriteString("}\n")
	}
	return []byte(t.String())
}

// route returns the line of a route, with the attributes that it is exported with.
func (b *BIRD) route(r Route) string {
	med, communities := b.opt.Of(r.How)
	line := fmt.Sprintf("\troute %s blackhole { bgp_med = %d;", r.Prefix, med)
	for _, c := range communities {
		line += fmt.Sprintf(" bgp_community.add((%d,%d));", c>>16, c&0xFFFF)
	}
	return line + " };\n"
}

// replace puts text in place of a file, so that nobody reads half of it.
func replace(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".shirube-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is not there if all went well
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(birdFileMode), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// birdFileMode lets BIRD, which is another user, read the file.
const birdFileMode = 0o644

// The codes of BIRD's replies that mean that it has taken the file, or will when
// what it is about is done.
var birdTaken = []string{"0003", "0004"}

// configure has BIRD read its configuration anew. Each line of a reply begins with
// a code of four digits; a space behind it ends the reply.
func (b *BIRD) configure(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "unix", b.opt.Socket)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all was said
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, maxBIRDLine)
	if _, err := reply(r); err != nil { // 0001, its greeting
		return err
	}
	if _, err := c.Write([]byte("configure\n")); err != nil {
		return err
	}
	last, err := reply(r)
	if err != nil {
		return err
	}
	for _, code := range birdTaken {
		if strings.HasPrefix(last, code) {
			return nil
		}
	}
	return fmt.Errorf("configure: %s", last)
}

// The bounds of what BIRD may say.
const (
	maxBIRDLine  = 4096
	maxBIRDLines = 64
)

// reply reads a reply, and returns its last line.
func reply(r *bufio.Reader) (string, error) {
	for range maxBIRDLines {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", fmt.Errorf("reply: %w", err)
		}
		text := strings.TrimSpace(string(line))
		if len(line) > 4 && line[4] == ' ' && line[0] >= '0' && line[0] <= '9' {
			return text, nil
		}
	}
	return "", errors.New("a reply without an end")
}
