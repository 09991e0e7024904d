package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"shirube/internal/localsock"
)

// A server hands over to the process after it in a conversation on a connection
// that was one of HTTP (RFC 9110 §7.8). The heir speaks, a line at a time, and is
// answered with one line, which begins with the same word:
//
//	next    "next NAME" and a descriptor with it, or "next" when there is no other
//	serve   "serve": the heir may serve on what it was given
//	leave   "leave": the heir serves, and the server will end; its sockets but those
//	        of clients are closed
//
// An heir that goes before it has said "leave" changes nothing.
const (
	wordNext  = "next"
	wordServe = "serve"
	wordLeave = "leave"

	handOverPath  = "/v1/handover"
	handOverProto = "shirube-handover"
	upgradePath   = "/v1/upgrade"
)

const (
	handOverTime = 20 * time.Second // for the whole conversation
	upgradeTime  = time.Minute      // for a process to start and take over, with the answer to who wanted it
	retireTime   = 2 * time.Second  // for requests under way to be answered when the heir has the server's place
	maxWords     = 1024             // octets of a line
)

// Inherited is a socket that clients are listened to on.
type Inherited struct {
	Name   string // without white space
	Socket syscall.Conn
}

// Estate is what a server has for the process after it. Either Leave or Keep is
// called, once.
type Estate struct {
	Sockets []Inherited
	Serve   func() // ends what two processes cannot do with one socket; the heir begins now
	Leave   func() // the heir serves; nothing is left to be done here but to end
	Keep    func() // the heir has gone: all is to be as before
}

// Upgraded is what came of an upgrade.
type Upgraded struct {
	PID int `json:"pid"` // of the process that serves from now on
}

// handOver has the peer take the server's place.
func (s *Server) handOver(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != handOverProto {
		w.Header().Set("Upgrade", handOverProto)
		answer(w, nil, refusef(http.StatusUpgradeRequired, "%s: found no `Upgrade: %s`; it is for `shirube serve --take-over`", handOverPath, handOverProto))
		return
	}
	estate, err := s.opt.Backend.HandOver(localsock.Peer(r.Context()))
	if err != nil {
		answer(w, nil, refusef(http.StatusConflict, "%v", err))
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		estate.Keep()
		answer(w, nil, err)
		return
	}
	defer func() { _ = c.Close() }() // the heir has heard all there is
	socket, ok := localsock.Unix(c)
	if err = c.SetDeadline(time.Now().Add(handOverTime)); err == nil && ok {
		_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", handOverProto)
	}
	if err == nil {
		err = bequeath(socket, rw.Reader, estate)
	} else {
		estate.Keep()
	}
	if err != nil {
		s.opt.Log.Warn("another process wanted to take over, and has not", "pid", localsock.Peer(r.Context()), "error", err)
	}
}

// bequeath is the server's side of the conversation.
func bequeath(c *net.UnixConn, heir *bufio.Reader, e *Estate) (err error) {
	left := false
	defer func() {
		if !left {
			e.Keep()
		}
	}()
	for _, s := range e.Sockets {
		if err = hear(heir, wordNext); err != nil {
			return err
		}
		if err = give(c, s); err != nil {
			return err
		}
	}
	if err = hear(heir, wordNext); err == nil {
		err = say(c, wordNext)
	}
	if err == nil {
		err = hear(heir, wordServe)
	}
	if err != nil {
		return err
	}
	e.Serve()
	if err = say(c, wordServe); err == nil {
		err = hear(heir, wordLeave)
	}
	if err != nil {
		return err
	}
	left = true
	e.Leave()
	return say(c, wordLeave)
}

func say(w io.Writer, words ...string) error {
	_, err := io.WriteString(w, strings.Join(words, " ")+"\n")
	return err
}

// hear reads a line, which has to be the word.
func hear(r *bufio.Reader, word string) error {
	line, err := r.ReadSlice('\n') // of at most 4096 octets
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(line)); got != word {
		return fmt.Errorf("found %q; expected %q", got, word)
	}
	return nil
}

// give sends a socket's descriptor with its name.
func give(c *net.UnixConn, s Inherited) error {
	rc, err := s.Socket.SyscallConn()
	if err != nil {
		return err
	}
	ctl := rc.Control(func(fd uintptr) {
		_, _, err = c.WriteMsgUnix([]byte(wordNext+" "+s.Name+"\n"), syscall.UnixRights(int(fd)), nil)
	})
	return errors.Join(ctl, err)
}

// ErrNobody says that there is no server to take over from.
var ErrNobody = errors.New("no server is there")

// Heir takes the place of a running server.
type Heir struct{ conn *net.UnixConn }

// Inherit asks the server whose socket is at path to hand over. The error wraps
// [ErrNobody] if there is none.
func Inherit(ctx context.Context, path string) (*Heir, error) {
	d := net.Dialer{Timeout: dialTime}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s", ErrNobody, path)
	case err != nil:
		return nil, NewClient(path).unreachable(err)
	}
	h := &Heir{c.(*net.UnixConn)}
	if err := h.ask(); err != nil {
		return nil, errors.Join(fmt.Errorf("the server at %s does not hand over: %w", path, err), h.Close())
	}
	return h, nil
}

// ask makes the connection one of the conversation.
func (h *Heir) ask() error {
	if err := h.conn.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(h.conn, "POST %s HTTP/1.1\r\nHost: shirube\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", handOverPath, handOverProto); err != nil {
		return err
	}
	// Nothing follows the head before the server is asked, so that nothing is lost
	// with the reader.
	resp, err := http.ReadResponse(bufio.NewReader(h.conn), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	var p Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(&p); err != nil || p.Error == "" {
		return fmt.Errorf("it answers %s, and does not say why", resp.Status)
	}
	return errors.New(p.Error)
}

// Sockets has take called with each socket of the server, which take owns.
func (h *Heir) Sockets(take func(name string, fd int)) error {
	for {
		rest, fds, err := h.request(wordNext)
		if err != nil {
			return err
		}
		if rest == "" {
			return nil
		}
		if len(fds) != 1 {
			closeFDs(fds)
			return fmt.Errorf("%d descriptors came with the socket %s", len(fds), rest)
		}
		take(rest, fds[0])
	}
}

// Serve returns when the sockets can be served on.
func (h *Heir) Serve() error { return h.order(wordServe) }

// Leave returns when the server before has let go of all but what is in flight,
// and of clients' sockets.
func (h *Heir) Leave() error { return h.order(wordLeave) }

// Close ends the conversation. Before Leave, the server before goes on as if it
// had not been asked.
func (h *Heir) Close() error { return h.conn.Close() }

func (h *Heir) order(word string) error {
	_, fds, err := h.request(word)
	closeFDs(fds)
	return err
}

// request says a word, and returns what follows it in the answer, with the
// descriptors.
func (h *Heir) request(word string) (rest string, fds []int, err error) {
	if err := say(h.conn, word); err != nil {
		return "", nil, err
	}
	// An answer is one line and was sent by one call, and no other is under way.
	buf, oob := make([]byte, maxWords), make([]byte, syscall.CmsgSpace(4))
	n, oobn, _, _, err := h.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return "", nil, err
	}
	if fds, err = rights(oob[:oobn]); err != nil {
		return "", nil, err
	}
	line, whole := strings.CutSuffix(string(buf[:n]), "\n")
	got, rest, _ := strings.Cut(line, " ")
	if !whole || got != word {
		closeFDs(fds)
		return "", nil, fmt.Errorf("found %q; expected %q", line, word)
	}
	return rest, fds, nil
}

// rights returns the descriptors in a control message.
func rights(oob []byte) (fds []int, err error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		got, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			closeFDs(fds)
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd) // nobody has used it
	}
}

// upgrade has the server start its successor.
func (s *Server) upgrade(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), upgradeTime-dialTime)
	defer cancel()
	pid, err := s.opt.Backend.Upgrade(ctx)
	if err != nil {
		return nil, refusef(http.StatusConflict, "%v", err)
	}
	return Upgraded{pid}, nil
}

// Retire ends the service when the heir is there: requests under way are answered
// first.
func (s *Server) Retire() error {
	s.cancel() // traces
	ctx, cancel := context.WithTimeout(context.Background(), retireTime)
	defer cancel()
	return errors.Join(s.http.Shutdown(ctx), s.Close())
}
