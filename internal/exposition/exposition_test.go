package exposition

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHandlerWritesAnewForEachWhoAsks(t *testing.T) {
	asked := 0
	h := Handler(func(w io.Writer) error {
		asked++
		_, err := io.WriteString(w, "up 1\n")
		return err
	})
	for i := range 2 {
		rsp := httptest.NewRecorder()
		h.ServeHTTP(rsp, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if got := rsp.Body.String(); got != "up 1\n" || rsp.Header().Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" || asked != i+1 {
			t.Errorf("%q, %v, asked %d times", got, rsp.Header(), asked)
		}
	}
}
