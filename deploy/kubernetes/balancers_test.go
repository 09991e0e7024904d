package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"shirube/internal/manual"
	"shirube/internal/members"
)

// told is what a load balancer's API was told.
type told struct {
	call string // method and path
	auth string
	body any
}

// balancer is a double of a load balancer's API: it answers, and notes what it is
// told.
type balancer struct {
	*httptest.Server

	dir  string // where the commands are typed
	told []told
}

// startBalancer answers each call, by method and path, with a status and a text.
func startBalancer(t *testing.T, ca string, answers map[string]string) *balancer {
	t.Helper()
	b := &balancer{dir: t.TempDir()}
	b.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		one := told{call: r.Method + " " + r.RequestURI, auth: r.Header.Get("Authorization")}
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &one.body); err != nil || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %v in %s, of the type %s", one.call, err, raw, r.Header.Get("Content-Type"))
			}
		}
		b.told = append(b.told, one) // one after the other
		status, text, known := strings.Cut(answers[one.call], " ")
		if !known {
			t.Errorf("there is no %s", one.call)
			status = "404"
		}
		var code int
		_, _ = fmt.Sscan(status, &code)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(b.Close)
	b.write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw}))
	return b
}

func (b *balancer) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// types types commands of the manual, with the device's name being that of the
// double, kubectl printing the pods of a test, and this repository's program.
func (b *balancer) types(t *testing.T, host string, commands []string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	shirube, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(shirube, filepath.Join(b.dir, "shirube")); err != nil {
		t.Fatal(err)
	}
	b.write(t, "kubectl", []byte("#!/bin/sh\nexec cat "+root+"/internal/members/testdata/pods.json\n"))
	if err := os.Chmod(filepath.Join(b.dir, "kubectl"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "deploy"), filepath.Join(b.dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	// The certificate of the double is for example.com, whatever the device is called.
	script := strings.ReplaceAll(strings.Join(commands, "\n"), "https://"+host+"/", "https://example.com/")
	script = strings.ReplaceAll(script, "curl --", "curl --silent --show-error --noproxy '*' --connect-to ::"+b.Listener.Addr().String()+" --")
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", "set -o pipefail\n"+script)
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), "PATH="+b.dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, script, out)
	}
}

// wantCalls compares what was called, in order.
func wantCalls(t *testing.T, got []told, want []string) {
	t.Helper()
	var calls []string
	for _, one := range got {
		calls = append(calls, one.call)
	}
	if !slices.Equal(calls, want) {
		t.Errorf("told were\n%q; expected\n%q", calls, want)
	}
}

const clustersPage = "../../docs/kubernetes.md"

// TestCommandsOfTheManualSpeakAXAPI types what the page says of A10. A session is
// begun with the credentials, and named in each call by its signature; it is ended.
func TestCommandsOfTheManualSpeakAXAPI(t *testing.T) {
	commands, err := manual.Commands(clustersPage, "A10")
	if err != nil {
		t.Fatal(err)
	}
	b := startBalancer(t, "a10-ca.crt", map[string]string{
		"POST /axapi/v3/auth":                         `200 {"authresponse": {"signature":"8e43dab4d30c0b8f2a5c9e", "description":"the signature should be set in Authorization header for following request."}}`,
		"POST /axapi/v3/slb/server":                   `400 {"response": {"status": "fail", "err": {"code": 1023460352, "msg": "The object already exists"}}}`,
		"PUT /axapi/v3/slb/service-group/shirube-udp": `200 {"service-group": {}}`,
		"PUT /axapi/v3/slb/service-group/shirube-tcp": `200 {"service-group": {}}`,
		"POST /axapi/v3/logoff":                       `200 {"response": {"status": "OK"}}`,
	})
	page, err := os.ReadFile(clustersPage)
	if err != nil {
		t.Fatal(err)
	}
	login := regexp.MustCompile("`login.json` is `(.*?)`").FindSubmatch(page)
	if login == nil {
		t.Fatal("the page does not say what login.json is")
	}
	b.write(t, "login.json", login[1])
	b.types(t, "thunder.isp.example", commands)
	wantCalls(t, b.told, []string{
		"POST /axapi/v3/auth", "POST /axapi/v3/slb/server",
		"PUT /axapi/v3/slb/service-group/shirube-udp", "PUT /axapi/v3/slb/service-group/shirube-tcp", "POST /axapi/v3/logoff",
	})
	if t.Failed() {
		return
	}
	if auth := b.told[0]; auth.auth != "" || at(auth.body, "credentials", "username") != "shirube" || at(auth.body, "credentials", "password") != "PASSWORD" {
		t.Errorf("the session begins with %+v", auth)
	}
	for _, one := range b.told[1:] {
		if one.auth != "A10 8e43dab4d30c0b8f2a5c9e" {
			t.Errorf("%s: the session is %q", one.call, one.auth)
		}
	}
	names := []string{"shirube-192.0.2.10", "shirube-192.0.2.11", "shirube-2001:db8:100::10", "shirube-2001:db8:100::11"}
	for _, c := range []struct {
		call int
		path []any
	}{{1, []any{"server-list"}}, {2, []any{"service-group", "member-list"}}, {3, []any{"service-group", "member-list"}}} {
		list, _ := at(b.told[c.call].body, c.path...).([]any)
		var got []string
		for _, m := range list {
			got = append(got, fmt.Sprint(at(m, "name")))
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			t.Errorf("%s: told were %q", b.told[c.call].call, got)
		}
	}
}

// TestCommandsOfTheManualSpeakIControl types what the page says of an F5 without
// AS3.
func TestCommandsOfTheManualSpeakIControl(t *testing.T) {
	commands, err := manual.Commands(clustersPage, "F5")
	if err != nil {
		t.Fatal(err)
	}
	commands = slices.DeleteFunc(commands, func(c string) bool { return strings.Contains(c, "kubectl -n dns create ") }) // of the cluster
	const call = "PATCH /mgmt/tm/ltm/pool/~Common~shirube"
	b := startBalancer(t, "bigip-ca.crt", map[string]string{call: `200 {"kind": "tm:ltm:pool:poolstate"}`})
	b.write(t, "curl", []byte(credentials(t)))
	b.types(t, "bigip.isp.example", commands)
	wantCalls(t, b.told, []string{call})
	if t.Failed() {
		return
	}
	wantBasic(t, b.told[0])
	want := []any{object{"name": "192.0.2.10:53", "address": "192.0.2.10"}, object{"name": "192.0.2.11:53", "address": "192.0.2.11"}}
	if got := at(b.told[0].body, "members"); !reflect.DeepEqual(got, want) {
		t.Errorf("the members are %v; expected %v", got, want)
	}
}

// TestTheCronJobSpeaksAS3 runs the curl of the CronJob with its own arguments.
func TestTheCronJobSpeaksAS3(t *testing.T) {
	list := build(t, "overlays/f5-a10")
	args := texts(at(find(t, list, "CronJob", "lb-members"), "spec", "jobTemplate", "spec", "template", "spec", "containers", 0, "args"))
	const call = "POST /mgmt/shared/appsvcs/declare"
	b := startBalancer(t, "ca.crt", map[string]string{call: `200 {"results": [{"code": 200, "message": "success", "tenant": "dns"}]}`})
	b.write(t, "curl", []byte(credentials(t)))
	some := somePods(t)
	tmpl, err := members.ParseTemplate("as3.tmpl", read(t, "overlays/f5-a10/as3.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := tmpl.Append(nil, some)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "as3.json", text)
	for i, arg := range args {
		arg = strings.Replace(arg, "/etc/lb-credentials/", b.dir+"/", 1)
		arg = strings.Replace(arg, "/run/lb-members/", b.dir+"/", 1)
		args[i] = strings.Replace(arg, "bigip.isp.example", "example.com", 1)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "curl", append(args, "--noproxy", "*", "--connect-to", "::"+b.Listener.Addr().String())...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	wantCalls(t, b.told, []string{call})
	wantBasic(t, b.told[0])
	if got := b.told[0].body; at(got, "class") != "AS3" || at(got, "declaration", "class") != "ADC" || at(got, "declaration", "dns", "class") != "Tenant" {
		t.Errorf("it is told %v", got)
	}
}

// credentials returns the line of the manual that curl is configured with.
func credentials(t *testing.T) string {
	t.Helper()
	blocks, err := manual.Blocks(clustersPage, "F5", "text")
	if err != nil {
		t.Fatal(err)
	}
	return blocks[0]
}

// wantBasic wants a call to be by the user of the manual.
func wantBasic(t *testing.T, one told) {
	t.Helper()
	r := &http.Request{Header: http.Header{"Authorization": {one.auth}}}
	if user, password, ok := r.BasicAuth(); !ok || user != "shirube" || password != "PASSWORD" {
		t.Errorf("%s: the user is %q", one.call, user)
	}
}
