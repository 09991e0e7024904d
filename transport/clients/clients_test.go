package clients

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestClientsReadNoMoreThanAMessage(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/dns-message")
		for r.Context().Err() == nil { // for as long as anybody reads
			if _, err := w.Write(bytes.Repeat([]byte{'x'}, wire.MaxMsgSize/8)); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	at := netip.MustParseAddrPort(s.Listener.Addr().String())
	for _, w := range Ways() {
		if w.Name != "DoH by HTTP/1.1 POST" {
			continue
		}
		c, err := w.Dial(ctx, netip.Addr{}, at, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Ask(ctx, []byte("query"))
		if err == nil || !strings.Contains(err.Error(), "a response of more than 65535 octets") {
			t.Errorf("%v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
