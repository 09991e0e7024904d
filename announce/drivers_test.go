package announce

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// birdStub listens where BIRD's control socket is, and answers each command with
// what it is given. It returns what it was told.
func birdStub(t *testing.T, path string, answers ...string) <-chan string {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	told := make(chan string, len(answers))
	go func() { // ends with the listener
		for _, answer := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("0001 BIRD 2.0.12 ready.\n"))
			line, _ := bufio.NewReader(c).ReadString('\n')
			told <- strings.TrimSpace(line)
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
	return told
}

func TestBIRDIsToldOnceForEachChange(t *testing.T) {
	dir := t.TempDir()
	opt := BIRDOptions{
		File: filepath.Join(dir, "vips.conf"), Socket: filepath.Join(dir, "s"), Protocol: "shirube",
		Attributes: Attributes{MED: 100, LastResortMED: 1000, Communities: []uint32{64512<<16 | 1}, LastResortCommunities: []uint32{GracefulShutdown}},
	}
	ok := "0002-Reading configuration from /etc/bird/bird.conf\n0003 Reconfigured\n"
	told := birdStub(t, opt.Socket, ok, "0002-Reading\n8002 /etc/bird/bird.conf:1:2 syntax error\n", ok)
	b := NewBIRD(opt)
	four, six := netip.PrefixFrom(vip4, 32), netip.PrefixFrom(vip6, 128)
	first := []Route{{four, Announced}, {six, LastResort}}
	for range 2 {
		if err := b.Apply(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-told; got != "configure" {
		t.Errorf("BIRD was told %q", got)
	}
	text, err := os.ReadFile(opt.File)
	for _, want := range []string{
		"protocol static shirube4 {\n\tipv4;\n\troute 192.0.2.53/32 blackhole { bgp_med = 100; bgp_community.add((64512,1)); };\n}\n",
		"protocol static shirube6 {\n\tipv6;\n\troute 2001:db8::53/128 blackhole { bgp_med = 1000; bgp_community.add((64512,1)); bgp_community.add((65535,0)); };\n}\n",
	} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%v:\n%s\nlacks\n%s", err, text, want)
		}
	}
	second := []Route{{four, Draining}, {six, Withdrawn}}
	if err := b.Apply(t.Context(), second); err == nil || !strings.Contains(err.Error(), "8002") {
		t.Errorf("BIRD's refusal: %v", err)
	}
	<-told
	if err := b.Apply(t.Context(), second); err != nil { // it is tried again
		t.Error(err)
	}
	<-told
	text, err = os.ReadFile(opt.File)
	if want := "route 192.0.2.53/32 blackhole { bgp_med = 100; bgp_community.add((64512,1)); bgp_community.add((65535,0)); };"; err != nil ||
		!strings.Contains(string(text), want) || strings.Contains(string(text), "2001:db8::53") {
		t.Errorf("%v:\n%s", err, text)
	}
}

func TestBIRDThatIsNotThereIsAnError(t *testing.T) {
	dir := t.TempDir()
	b := NewBIRD(BIRDOptions{File: filepath.Join(dir, "f"), Socket: filepath.Join(dir, "s"), Protocol: "p"})
	if err := b.Apply(t.Context(), nil); err == nil {
		t.Error("nobody listens, and there is no error")
	}
	b.opt.File = filepath.Join(dir, "no", "f")
	if err := b.Apply(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestReadinessIsReadFromTheAdminSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	answers := []struct {
		status int
		body   string
		want   Readiness
		fails  bool
	}{
		{200, `{"ready":true}`, Readiness{Ready: true}, false},
		{200, `{"ready":true,"causes":[{"code":"no_root","counts":false}]}`, Readiness{Ready: true}, false},
		{503, `{"ready":false,"causes":[{"code":"draining","counts":true},{"code":"no_root","counts":false}]}`, Readiness{Causes: []string{"draining"}}, false},
		{403, `only root`, Readiness{}, true},
		{200, `<html>`, Readiness{}, true},
	}
	next := 0
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(answers[next].status)
		_, _ = w.Write([]byte(answers[next].body))
		next++
	})}
	go func() { _ = s.Serve(l) }() // ends with Close
	defer func() { _ = s.Close() }()
	ask := ReadyAt(path)
	for _, a := range answers {
		got, err := ask(t.Context())
		if (err != nil) != a.fails || !a.fails && (got.Ready != a.want.Ready || strings.Join(got.Causes, ",") != strings.Join(a.want.Causes, ",")) {
			t.Errorf("%d %s: %+v, %v", a.status, a.body, got, err)
		}
	}
	if _, err := ReadyAt(path + "x")(t.Context()); err == nil {
		t.Error("nobody listens, and there is no error")
	}
}

func TestBIRDThatTalksTooMuchIsAnError(t *testing.T) {
	dir := t.TempDir()
	for i, answer := range []string{strings.Repeat("x", 2*maxBIRDLine) + "\n0003 Reconfigured\n", strings.Repeat("0002-Reading\n", 2*maxBIRDLines) + "0003 Reconfigured\n"} {
		opt := BIRDOptions{File: filepath.Join(dir, "f"), Socket: filepath.Join(dir, string(rune('a'+i))), Protocol: "p"}
		birdStub(t, opt.Socket, answer)
		if err := NewBIRD(opt).Apply(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "repl") {
			t.Errorf("answer %d: %v", i, err)
		}
	}
}

func TestLongReadinessIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat(" ", maxReadiness) + `{"ready":true}`))
	})}
	go func() { _ = s.Serve(l) }() // ends with Close
	defer func() { _ = s.Close() }()
	if r, err := ReadyAt(path)(t.Context()); err == nil || r.Ready {
		t.Errorf("%+v, %v", r, err)
	}
}
