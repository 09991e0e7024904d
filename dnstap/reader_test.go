package dnstap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	framestream "github.com/farsightsec/golang-framestream"
)

// stream1 is a stream that runs one way.
func stream1(frames ...[]byte) []byte {
	b := AppendControl(nil, ControlStart)
	for _, f := range frames {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	return b
}

func TestReaderReadsFramesOfEveryLength(t *testing.T) {
	var frames [][]byte
	for _, n := range []int{1, 100, readBuffer - lengthLen, readBuffer - lengthLen + 1, readBuffer + 7, MaxFrame, 3} {
		frames = append(frames, bytes.Repeat([]byte{byte(n)}, n))
	}
	r, err := NewReader(bytes.NewReader(AppendControl(stream1(frames...), ControlStop)))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range frames {
		if got, err := r.Next(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("frame %d of %d octets: %d, %v", i, len(want), len(got), err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestReaderRefusesGarbage(t *testing.T) {
	giant := binary.BigEndian.AppendUint32(stream1(), MaxFrame+1)
	for name, tt := range map[string]struct {
		stream []byte
		want   error
	}{
		"nothing":              {nil, io.ErrUnexpectedEOF},
		"text":                 {[]byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"), errNoControl},
		"long control frame":   {[]byte{0, 0, 0, 0, 0, 0, 255, 255, 0}, errControl},
		"unknown control":      {[]byte{0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9}, errControl},
		"field cut off":        {[]byte{0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 1}, errControl},
		"not the start":        {AppendControl(nil, ControlReady), ErrControl},
		"giant frame":          {giant, ErrGiantFrame},
		"no end":               {stream1([]byte("x")), io.ErrUnexpectedEOF},
		"half a frame":         {stream1([]byte("xyz"))[:len(stream1())+6], io.ErrUnexpectedEOF},
		"half a control frame": {AppendControl(stream1(), ControlStop)[:len(stream1())+9], io.ErrUnexpectedEOF},
		"start in the middle":  {AppendControl(stream1(), ControlStart), ErrControl},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(tt.stream))
			for err == nil {
				_, err = r.Next()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("found %v; expected %v", err, tt.want)
			}
		})
	}
	other := bytes.Replace(stream1(), []byte("dnstap.Dnstap"), []byte("dnstap.Others"), 1)
	if _, err := NewReader(bytes.NewReader(other)); err == nil {
		t.Error("a stream of something else was taken")
	}
}

// TestReaderTalksToGolangFramestream is the handshake with another's sender.
func TestReaderTalksToGolangFramestream(t *testing.T) {
	ours, theirs := net.Pipe()
	done := make(chan error)
	go func() { // ends with the stream
		w, err := framestream.NewWriter(theirs, &framestream.WriterOptions{
			ContentTypes: [][]byte{[]byte(ContentType)}, Bidirectional: true, Timeout: patience,
		})
		if err == nil {
			_, err = w.WriteFrame([]byte("frame"))
		}
		if err == nil {
			err = w.Close()
		}
		done <- err
	}()
	r, err := Accept(ours)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Next(); string(b) != "frame" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the sender says %v", err)
	}
}
