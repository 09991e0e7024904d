//go:build screenshots

package admin

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestScreenshots takes the pictures of the status page that the manual shows,
// with Chromium, from a server that tells of a busy day (testdata/status.json).
// Run it with `make screenshots`.
func TestScreenshots(t *testing.T) {
	text, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	var asked, grown float64
	busy := func() any {
		var doc map[string]any
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Error(err)
		}
		asked++
		grown += 1e-4 * (0.8 + 0.4*rand.Float64())
		now, err := time.Parse(time.RFC3339, doc["now"].(string))
		if err != nil {
			t.Error(err)
		}
		grow(doc, 1+grown)
		doc["now"] = now.Add(time.Duration(asked) * 2 * time.Second)
		for _, key := range []string{"servers", "trouble"} { // what was until a time goes on
			for _, entry := range doc[key].([]any) {
				until, err := time.Parse(time.RFC3339, entry.(map[string]any)["until"].(string))
				if err != nil {
					t.Error(err)
				}
				entry.(map[string]any)["until"] = until.Add(time.Duration(asked) * 2 * time.Second)
			}
		}
		return doc
	}
	at := "http://any:" + secret + "@" + serve(t, func(opt *Options) {
		opt.Addresses = guarded(t)
		opt.Backend.Metrics, opt.Backend.Status = http.NotFoundHandler(), busy
	})[0] + "/"
	browse := func(args ...string) ([]byte, error) {
		args = append(args, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=250000",
			"--user-data-dir="+t.TempDir(), "--enable-logging=stderr", at)
		return exec.CommandContext(t.Context(), "chromium", args...).CombinedOutput()
	}
	dom, err := browse("--dump-dom")
	if err != nil {
		t.Fatalf("%v\n%s", err, dom)
	}
	for _, want := range []string{ // one of each part of the page
		">ready<", "broken.example.", "expires in 9.", ">doh3<", ">resolution<", ">SERVFAIL<", "p99 ", "% of 1.0 GiB", ">HTTPS<",
		"www.example.com.", "198.51.100.0", ">slow.example. does not answer<", ">secure<", ">memcached-2<", "ramping, 33.0 % hits",
		">9 days left<", ">aliases per question<", "points=\"", ">policy<", ">p90<", ">tls:taps.example.net:6000<", ">stalled, 1930 dropped<",
	} {
		if !strings.Contains(string(dom), want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	for name, args := range map[string][]string{
		"light": {"--window-size=1200,1720", "--blink-settings=preferredColorScheme=1"},
		"dark":  {"--window-size=1200,1720", "--blink-settings=preferredColorScheme=0"},
		"phone": {"--window-size=500,4140", "--blink-settings=preferredColorScheme=1"},
	} {
		picture := "../../docs/status-" + name + ".png"
		out, err := browse(append(args, "--screenshot="+picture)...)
		if err != nil || strings.Contains(string(out), "CONSOLE") { // an error of the script, or of its policy
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if file, err := os.Stat(picture); err != nil || file.Size() < 20_000 {
			t.Errorf("%s: %v, %v", name, file, err)
		}
	}
}

// grow makes all counters of doc so many times as large. What is now stays.
func grow(doc map[string]any, times float64) {
	for _, key := range []string{"responses", "rcodes", "types", "sources", "policy", "upstream", "server_failures", "dnssec", "shared"} {
		section := doc[key].(map[string]any)
		for k, v := range section {
			section[k] = int64(v.(float64) * times)
		}
	}
	for _, collector := range doc["collectors"].([]any) {
		if c := collector.(map[string]any); c["up"].(bool) {
			c["sent"] = int64(c["sent"].(float64) * times)
		}
	}
	for _, buckets := range doc["latency"].(map[string]any) {
		for i, v := range buckets.([]any) {
			buckets.([]any)[i] = int64(v.(float64) * times)
		}
	}
}
