package verify

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestStatusThatNeverEndsIsCutOff(t *testing.T) {
	sent := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		spaces := []byte(strings.Repeat(" ", 1<<20))
		for {
			n, err := w.Write(spaces)
			if sent += n; err != nil {
				return
			}
		}
	}))
	p := &probe{Options: &Options{}}
	p.QuestionTimeout = time.Minute
	p.Dnstap.Status = s.URL
	_, err := p.tapFrames(t.Context())
	s.Close() // waits for the handler
	if err == nil || sent > 4*maxStatus {
		t.Errorf("%d octets were sent, %v", sent, err)
	}
}
