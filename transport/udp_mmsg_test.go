//go:build linux && (amd64 || arm64)

package transport

import (
	"testing"

	"shirube/internal/netx"
)

func TestUDPCountsItsBatches(t *testing.T) {
	for _, tt := range []struct {
		batch int
		want  [NumBatchSizes]uint64
	}{
		{1, [NumBatchSizes]uint64{41}},
		{32, [NumBatchSizes]uint64{1, 0, 0, 1, 0, 1}}, // the gate, 32, 8
		{0, [NumBatchSizes]uint64{1, 0, 0, 0, 0, 1}},
		{netx.MaxBatch + 1, [NumBatchSizes]uint64{1, 0, 0, 0, 0, 1}},
	} {
		h := newGated()
		u, at := startUDP(t, UDPOptions{Handler: h, Batch: tt.batch}, "127.0.0.1:0")
		c := dial(t, "udp", at)
		write(t, c, packQuery(t, 99, "gate"))
		h.waitBegan(t, 1)
		for i := range uint16(40) {
			write(t, c, packQuery(t, i, "hit"))
		}
		close(h.open)
		for range 40 {
			receiveUDP(t, c)
		}
		if s := u.Stats(); s.Batches != tt.want {
			t.Errorf("batches of %d: %v, want %v", tt.batch, s.Batches, tt.want)
		}
	}
}
