package main

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadMessageReadsOneMessage(t *testing.T) {
	stream := bytes.NewReader([]byte("\x00\x03abc\x00\x00\x00\x05ab"))
	for _, want := range []string{"abc", ""} {
		if got, err := readMessage(iotest.OneByteReader(stream)); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	if got, err := readMessage(stream); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of half a message came %q, %v", got, err)
	}
}

func TestIdleSaysThatDescriptorsAreTooFew(t *testing.T) {
	if err := enoughDescriptors(1); err != nil {
		t.Error(err)
	}
	if err := enoughDescriptors(math.MaxInt32); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("got %v", err)
	}
}
