package netlink

import (
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAttributesAreReadAsTheyWereWritten(t *testing.T) {
	inner := Attr(nil, 7, []byte("abc"))
	b := Nested(Attr(Attr(nil, 1, []byte("x")), 2, nil), 3, inner)
	list, err := Attrs(b)
	if err != nil || len(list) != 3 {
		t.Fatalf("found %v, %v", list, err)
	}
	if list[0].Type != 1 || string(list[0].Value) != "x" || list[1].Type != 2 || len(list[1].Value) != 0 || list[2].Type != 3 {
		t.Errorf("found %v", list)
	}
	if sub, err := Attrs(list[2].Value); err != nil || len(sub) != 1 || string(sub[0].Value) != "abc" {
		t.Errorf("found %v, %v", sub, err)
	}
}

func TestAttributesThatGoBeyondTheEndAreAnError(t *testing.T) {
	for _, size := range []uint16{0, 3, 9} {
		b := binary.NativeEndian.AppendUint16(nil, size)
		if list, err := Attrs(append(b, 1, 0, 'a', 'b', 'c', 'd')); err == nil {
			t.Errorf("of size %d: found %v", size, list)
		}
	}
}

func TestDumpHasTheAddressesOfThisMachine(t *testing.T) {
	list, err := Dump(unix.NETLINK_ROUTE, Message{Type: unix.RTM_GETADDR, Body: make([]byte, unix.SizeofIfAddrmsg)})
	if err != nil {
		t.Fatal(err)
	}
	want, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < len(want) {
		t.Errorf("found %d addresses; expected %d", len(list), len(want))
	}
}

func TestRefusalsHaveTheKernelsNumberAndWords(t *testing.T) {
	body := make([]byte, unix.SizeofIfAddrmsg)
	body[0] = unix.AF_INET
	body = Attr(body, unix.IFA_LOCAL, []byte("odd")) // an IPv4 address has four octets
	err := Do(unix.NETLINK_ROUTE, Message{Type: unix.RTM_NEWADDR, Flags: unix.NLM_F_ACK, Body: body})
	if _, ok := errors.AsType[unix.Errno](err); !ok {
		t.Errorf("found %v", err)
	}
	if err == nil || unix.Geteuid() == 0 && !strings.Contains(err.Error(), ": ") {
		t.Errorf("the kernel says why, and found is %v", err)
	}
}

func TestUnknownProtocolIsAnError(t *testing.T) {
	if err := Do(1 << 10); !errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Errorf("found %v", err)
	}
}

func TestDumpsThatAreTooLongOrKeepChangingAreErrors(t *testing.T) {
	tries := 0
	interrupted := func() ([]Message, error) {
		tries++
		return collect(func() ([]Message, error) {
			return []Message{{Type: unix.RTM_NEWROUTE, Flags: unix.NLM_F_DUMP_INTR}}, nil
		})
	}
	if _, err := whole(interrupted); !errors.Is(err, errInterrupted) || tries != dumpTries {
		t.Errorf("found %v after %d tries; expected %d", err, tries, dumpTries)
	}
	endless := func() ([]Message, error) { return make([]Message, 1000), nil }
	if _, err := collect(endless); err == nil || !strings.Contains(err.Error(), "more than 65536 messages") {
		t.Errorf("found %v", err)
	}
}
