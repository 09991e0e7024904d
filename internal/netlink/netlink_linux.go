// Package netlink asks the kernel about its network, and has it change that: the
// messages of netlink(7), and no more than is needed of them.
package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// answerTime is how long the kernel is waited for; it answers at once.
	answerTime = 5 * time.Second
	// maxDatagram is more than the kernel puts into one datagram: 32 KiB in a dump.
	maxDatagram = 1 << 16
	// maxDump bounds the messages of a dump: a machine with the routes of the whole
	// Internet is not what is dumped here.
	maxDump = 1 << 16
	// dumpTries is how often a dump is begun anew that changed while it was read.
	dumpTries = 5
)

// Message is one to the kernel, or from it. The kernel's numbers are in this
// machine's order, unless a protocol says otherwise.
type Message struct {
	Type  uint16
	Flags uint16 // NLM_F_REQUEST is added
	Body  []byte // the protocol's header, and attributes
}

// Attribute is one of a message.
type Attribute struct {
	Type   uint16
	Nested bool // Value is attributes; the kernel does not always say so
	Value  []byte
}

// Attr appends an attribute.
func Attr(b []byte, typ uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// Nested appends an attribute that holds others.
func Nested(b []byte, typ uint16, attributes []byte) []byte {
	return Attr(b, typ|unix.NLA_F_NESTED, attributes)
}

// Attrs returns the attributes in b, which are part of it.
func Attrs(b []byte) (list []Attribute, err error) {
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return nil, fmt.Errorf("netlink: found an attribute of %d octets where %d are left", size, len(b))
		}
		typ := binary.NativeEndian.Uint16(b[2:])
		list = append(list, Attribute{typ &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER), typ&unix.NLA_F_NESTED != 0, b[unix.SizeofNlAttr:size]})
		b = b[min(aligned(size), len(b)):]
	}
	return list, nil
}

// aligned returns n, rounded up to where the next message or attribute begins.
func aligned(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }

// Do sends messages in one datagram, and returns when the kernel has acknowledged
// all that ask for it (NLM_F_ACK). An error of the kernel has its number
// ([unix.Errno]) in its chain.
func Do(protocol int, list ...Message) error {
	s, err := open(protocol)
	if err != nil {
		return err
	}
	defer s.close()
	acks := 0
	for _, m := range list {
		if m.Flags&unix.NLM_F_ACK != 0 {
			acks++
		}
	}
	if err := s.send(list); err != nil {
		return err
	}
	for acks > 0 {
		answers, err := s.receive()
		if err != nil {
			return err
		}
		for _, m := range answers {
			if m.Type != unix.NLMSG_ERROR {
				continue
			}
			if err := refusal(m); err != nil {
				return err
			}
			acks--
		}
	}
	return nil
}

// Dump sends a question, and returns all that the kernel answers.
func Dump(protocol int, question Message) ([]Message, error) {
	question.Flags |= unix.NLM_F_DUMP
	return whole(func() ([]Message, error) {
		s, err := open(protocol)
		if err != nil {
			return nil, err
		}
		defer s.close()
		if err := s.send([]Message{question}); err != nil {
			return nil, err
		}
		return collect(s.receive)
	})
}

// errInterrupted is of a dump in which something may be twice, or missing.
var errInterrupted = errors.New("netlink: it changed while it was read")

// whole begins a dump anew that was interrupted.
func whole(dump func() ([]Message, error)) ([]Message, error) {
	for range dumpTries {
		list, err := dump()
		if !errors.Is(err, errInterrupted) {
			return list, err
		}
	}
	return nil, errInterrupted
}

// collect reads the messages of a dump to its end.
func collect(receive func() ([]Message, error)) (list []Message, err error) {
	for {
		answers, err := receive()
		if err != nil {
			return nil, err
		}
		for _, m := range answers {
			switch {
			case m.Flags&unix.NLM_F_DUMP_INTR != 0:
				return nil, errInterrupted
			case m.Type == unix.NLMSG_DONE:
				return list, refusal(m)
			case m.Type == unix.NLMSG_ERROR:
				return nil, refusal(m)
			case len(list) >= maxDump:
				return nil, fmt.Errorf("netlink: found more than %d messages", maxDump)
			}
			list = append(list, m)
		}
	}
}

// refusal returns the error in an answer (struct nlmsgerr); nil: it is done.
func refusal(m Message) error {
	if len(m.Body) < 4 {
		return errors.New("netlink: found an acknowledgement without a number")
	}
	code := int32(binary.NativeEndian.Uint32(m.Body))
	if code >= 0 {
		return nil
	}
	err := unix.Errno(-code)
	// The kernel's own words are behind the header of what it is about
	// (NETLINK_CAP_ACK), or at once in the end of a dump.
	rest := m.Body[4:]
	if m.Type == unix.NLMSG_ERROR {
		rest = rest[min(unix.SizeofNlMsghdr, len(rest)):]
	}
	if m.Flags&unix.NLM_F_ACK_TLVS != 0 {
		attributes, _ := Attrs(rest) // there is the number, whatever is there besides
		for _, a := range attributes {
			if a.Type == unix.NLMSGERR_ATTR_MSG && len(a.Value) > 1 {
				return fmt.Errorf("%w: %s", err, a.Value[:len(a.Value)-1])
			}
		}
	}
	return err
}

// socket is one of a protocol of netlink.
type socket int

func open(protocol int) (socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, fmt.Errorf("netlink: %w", err)
	}
	s, wait := socket(fd), unix.NsecToTimeval(answerTime.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1))
	}
	if err != nil {
		s.close()
		return 0, fmt.Errorf("netlink: %w", err)
	}
	return s, nil
}

func (s socket) close() { _ = unix.Close(int(s)) } // nothing is on its way any more

func (s socket) send(list []Message) error {
	ne := binary.NativeEndian
	var b []byte
	for i, m := range list {
		b = ne.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(m.Body)))
		b = ne.AppendUint16(b, m.Type)
		b = ne.AppendUint16(b, m.Flags|unix.NLM_F_REQUEST)
		b = ne.AppendUint32(b, uint32(i+1))
		b = ne.AppendUint32(b, 0) // the kernel knows who asks
		b = append(b, m.Body...)
		b = append(b, make([]byte, aligned(len(b))-len(b))...)
	}
	if err := unix.Sendto(int(s), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	return nil
}

// receive returns the messages of one datagram.
func (s socket) receive() (list []Message, err error) {
	b := make([]byte, maxDatagram)
	n, _, err := unix.Recvfrom(int(s), b, unix.MSG_TRUNC)
	if err != nil {
		return nil, fmt.Errorf("netlink: no answer: %w", err)
	}
	if n > len(b) {
		return nil, fmt.Errorf("netlink: found a datagram of %d octets; expected %d at most", n, len(b))
	}
	ne := binary.NativeEndian
	for b = b[:n]; len(b) >= unix.SizeofNlMsghdr; {
		size := int(ne.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return nil, fmt.Errorf("netlink: found a message of %d octets where %d are left", size, len(b))
		}
		list = append(list, Message{ne.Uint16(b[4:]), ne.Uint16(b[6:]), b[unix.SizeofNlMsghdr:size]})
		b = b[min(aligned(size), len(b)):]
	}
	return list, nil
}
