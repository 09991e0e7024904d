package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"shirube/dnstap"
)

func TestTapBlockHasWholeFrames(t *testing.T) {
	block, err := tapBlock()
	if err != nil {
		t.Fatal(err)
	}
	stream := append(dnstap.AppendControl(nil, dnstap.ControlStart), block...)
	r, err := dnstap.NewReader(bytes.NewReader(dnstap.AppendControl(stream, dnstap.ControlStop)))
	if err != nil {
		t.Fatal(err)
	}
	var rec dnstap.Record
	types := map[uint32]int{}
	for {
		frame, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = rec.Decode(frame)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, ok := rec.Question(); !ok {
			t.Errorf("without a question: %+v", rec)
		}
		types[rec.Type]++
	}
	if types[uint32(dnstap.ClientQuery)] != tapFrames/2 || types[uint32(dnstap.ClientResponse)] != tapFrames/2 {
		t.Errorf("found %v", types)
	}
}

func TestSendersCountWhatTheCollectorHasConfirmed(t *testing.T) {
	a, b := net.Pipe()
	read := make(chan int, 1)
	// Owner: this test. Ends with the pipe. One.
	go func() {
		n := 0
		r, err := dnstap.Accept(b)
		for ; err == nil; n++ {
			_, err = r.Next()
		}
		read <- n - 1 // the last was STOP
	}()
	_, _ = a.Write(dnstap.AppendControl(nil, dnstap.ControlReady)) // what fails shows below
	if _, err := dnstap.ReadControl(a); err != nil {
		t.Fatal(err)
	}
	_, _ = a.Write(dnstap.AppendControl(nil, dnstap.ControlStart))
	frame := []byte("frame")
	block := bytes.Repeat(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...), tapFrames)
	sent, err := sendBlocks(a, block, time.Now().Add(10*time.Millisecond))
	if got := <-read; err != nil || sent == 0 || got != sent {
		t.Errorf("sent %d, %v; %d were read", sent, err, got)
	}
}

func TestTapReportSaysWhatTwoCoresTake(t *testing.T) {
	r := newTapReport(settings{conns: 4, rounds: 3, run: time.Second}, "shirube test", 120)
	for _, cpu := range []float64{2, 4, 5} {
		r.Runs = append(r.Runs, tapRun{Kind: "counted", Frames: 100, PerSecond: 300_000, CPU: cpu}, tapRun{Kind: "JSON", CPU: 50, PerSecond: 1})
	}
	if text := r.markdown(); !strings.Contains(text, "| counted | 4.00 (2.00–5.00) | 500000 | 300000 (300000–300000) | 0.0 |\n| JSON | 50.00") {
		t.Errorf("%s", text)
	}
	if err := r.verdict(); err != nil { // of JSON nothing is wanted
		t.Error(err)
	}
	r.Runs = append(r.Runs[:0], tapRun{Kind: "counted", CPU: 10.1})
	if err := r.verdict(); err == nil {
		t.Error("198,020 frames are enough")
	}
	if _, err := freeTCPAddress(context.Background()); err != nil {
		t.Error(err)
	}
}
