package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"shirube/dnstap/collector"
)

// redraw is how often the view is drawn.
const redraw = 500 * time.Millisecond

// What a terminal is told (ECMA-48; xterm's control sequences for the second
// screen).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[2J"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	atHome      = "\x1b[H"
	restOfLine  = "\x1b[K"
	bold, plain = "\x1b[1m", "\x1b[0m"
)

// usualSize is what a terminal has that does not say.
const (
	usualColumns = 80
	usualLines   = 24
)

// liveKeys is the last line of the view.
const liveKeys = "q quit   p pause   / filter: name: client: rcode: type: transport:"

// liveView shows what comes in on a terminal, until somebody presses q.
type liveView struct {
	live   *collector.Live
	in     *os.File
	out    *os.File
	before unix.Termios // how the terminal was
	title  string

	said    lastLine // what the log said
	editing bool
	edited  string // the filter that is being written
	wrong   string // what is wrong with the one before
}

// newLiveView takes the terminal over. Close gives it back.
func newLiveView(live *collector.Live, title string) (*liveView, error) {
	v := &liveView{live: live, in: os.Stdin, out: os.Stdout, title: title}
	if _, err := unix.IoctlGetTermios(int(v.out.Fd()), unix.TCGETS); err != nil {
		return nil, errors.New("--live needs a terminal to write to")
	}
	state, err := unix.IoctlGetTermios(int(v.in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, errors.New("--live needs a terminal to read keys from")
	}
	v.before = *state
	state.Lflag &^= unix.ECHO | unix.ICANON
	state.Cc[unix.VMIN], state.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(v.in.Fd()), unix.TCSETS, state); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	_, err = io.WriteString(v.out, enterScreen)
	return v, err
}

// Close gives the terminal back as it was.
func (v *liveView) Close() error {
	_, err := io.WriteString(v.out, leaveScreen)
	return errors.Join(err, unix.IoctlSetTermios(int(v.in.Fd()), unix.TCSETS, &v.before))
}

// run draws until ctx ends, or q is pressed.
func (v *liveView) run(ctx context.Context) error {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	keys := make(chan byte)
	// Owner: run. End: the process's, for nothing else interrupts a terminal's
	// read. Bound: one.
	go readKeys(ctx, v.in, keys)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		if err := v.draw(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-resized:
		case key := <-keys:
			if v.press(key) {
				return nil
			}
		}
	}
}

func readKeys(ctx context.Context, in io.Reader, keys chan<- byte) {
	var b [1]byte
	for {
		if _, err := in.Read(b[:]); err != nil {
			return
		}
		select {
		case keys <- b[0]:
		case <-ctx.Done():
			return
		}
	}
}

// What keys send.
const (
	keyEscape    = 0x1b
	keyBackspace = 0x7f
	keyControlH  = 0x08
	keyEnter     = '\n'
	keyReturn    = '\r'
)

// press takes a key, and reports whether it was the last.
func (v *liveView) press(key byte) bool {
	switch {
	case v.editing:
		v.edit(key)
	case key == 'q':
		return true
	case key == 'p':
		v.live.Pause()
	case key == '/':
		v.editing, v.edited, v.wrong = true, v.live.Filter().String(), ""
	}
	return false
}

// edit takes a key that is part of a filter.
func (v *liveView) edit(key byte) {
	switch {
	case key == keyEscape:
		v.editing = false
	case key == keyEnter, key == keyReturn:
		v.editing = false
		f, err := collector.ParseFilter(v.edited)
		if err != nil {
			v.wrong = err.Error()
			return
		}
		v.live.SetFilter(f)
	case key == keyBackspace, key == keyControlH:
		v.edited = v.edited[:max(len(v.edited)-1, 0)]
	case key >= ' ' && key < keyBackspace:
		v.edited += string(rune(key))
	}
}

// foot is the last line.
func (v *liveView) foot() string {
	switch said := v.said.String(); {
	case v.editing:
		return "filter: " + v.edited + "_"
	case v.wrong != "":
		return v.wrong
	case said != "":
		return said
	}
	return liveKeys
}

// draw draws everything. Each line is written whole, so that nothing flickers and
// nothing is left from before, whatever size the terminal has now.
func (v *liveView) draw() error {
	columns, lines := usualColumns, usualLines
	if size, err := unix.IoctlGetWinsize(int(v.out.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 0 {
		columns, lines = int(size.Col), int(size.Row)
	}
	var b bytes.Buffer
	b.WriteString(atHome)
	for i, line := range v.live.Screen(columns, lines, v.title, v.foot()) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if i == 0 || i == lines-1 {
			line = bold + line + plain
		}
		b.WriteString(line + restOfLine)
	}
	_, err := b.WriteTo(v.out)
	return err
}

// lastLine keeps what was written last. It is safe for concurrent use.
type lastLine struct {
	mu   sync.Mutex
	line string
}

// Write implements [io.Writer].
func (l *lastLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = strings.TrimSpace(string(b))
	return len(b), nil
}

// String returns the line.
func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.line
}
