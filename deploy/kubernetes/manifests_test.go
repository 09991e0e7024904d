// Package kubernetes_test holds the manifests to strict schemas, and what they say
// of the server to the server.
package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"shirube/internal/config"
	"shirube/internal/jsonschema"
	"shirube/internal/manual"
)

//go:generate go run ./gen

type object = map[string]any

// schemas is schemas.json.
type schemas struct{ Kinds, Definitions object }

func readSchemas(t *testing.T) schemas {
	t.Helper()
	text, err := os.ReadFile("schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schemas
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// faults returns what is wrong with an object.
func (s schemas) faults(o object) []string {
	kind, ok := s.Kinds[fmt.Sprintf("%s/%s", o["apiVersion"], o["kind"])].(object)
	if !ok {
		return []string{fmt.Sprintf("there is no schema of %s %s", o["apiVersion"], o["kind"])}
	}
	schema := object{"definitions": s.Definitions}
	for key, value := range kind {
		schema[key] = value
	}
	return jsonschema.Faults(schema, o)
}

// decode returns the objects of a YAML text, as JSON has them.
func decode(t *testing.T, text []byte) []object {
	t.Helper()
	var list []object
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var raw, o object
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &o); err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
}

// built is what kustomize has made so far, by directory. Most tests want the same
// few, and the manifests do not change meanwhile.
var built = map[string][]byte{}

// build returns the objects that kustomize makes of a directory: the caller's own. No
// test here is parallel to another.
func build(t *testing.T, dir string) []object {
	t.Helper()
	if built[dir] == nil {
		cmd := exec.Command("go", "tool", "-modfile=../../tools/go.mod", "kustomize", "build", dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kustomize build %s: %v\n%s", dir, err, stderr.Bytes())
		}
		built[dir] = out
	}
	return decode(t, built[dir])
}

// programDir is where program builds; empty: nobody needed it.
var programDir string

// program builds this repository's program, once, and returns where it is.
var program = sync.OnceValues(func() (path string, err error) {
	if programDir, err = os.MkdirTemp("", "shirube-kubernetes-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(programDir, "shirube")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/shirube").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir) // what cannot be removed is in the directory for such things
	}
	os.Exit(code) //nolint:forbidigo // TestMain is main here
}

// hashed is what kustomize puts behind the name of a ConfigMap that it makes.
var hashed = regexp.MustCompile(`^-[a-z0-9]{10}$`)

// find returns the object of a kind with a name, or with a hash behind it.
func find(t *testing.T, list []object, kind, name string) object {
	t.Helper()
	for _, o := range list {
		got, _ := at(o, "metadata", "name").(string)
		if o["kind"] == kind && (got == name || kind == "ConfigMap" && hashed.MatchString(strings.TrimPrefix(got, name))) {
			return o
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// at returns what is at a path of keys and indexes; nil: nothing.
func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			o, _ := v.(object)
			v = o[step]
		case int:
			l, _ := v.([]any)
			if step >= len(l) {
				return nil
			}
			v = l[step]
		}
	}
	return v
}

// directories returns those with a kustomization.
func directories(t *testing.T) []string {
	t.Helper()
	var dirs []string
	for _, pattern := range []string{"base", "overlays/*", "acm/*", "verify"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, found...)
	}
	if len(dirs) < 6 {
		t.Fatalf("found only %q", dirs)
	}
	return dirs
}

func TestManifestsAreStrictlyValid(t *testing.T) {
	s := readSchemas(t)
	for _, dir := range directories(t) {
		list := build(t, dir)
		if len(list) < 2 {
			t.Errorf("%s makes %d objects", dir, len(list))
		}
		for _, o := range list {
			for _, fault := range s.faults(o) {
				t.Errorf("%s: %s %v%s", dir, o["kind"], at(o, "metadata", "name"), fault)
			}
		}
	}
}

// TestManifestsOfTheManualAreStrictlyValid finds them by their apiVersion, by which
// the test of configurations leaves them out.
func TestManifestsOfTheManualAreStrictlyValid(t *testing.T) {
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	s, found := readSchemas(t), 0
	for _, path := range paths {
		blocks, _ := manual.Blocks(path, "", "yaml") // a page may have none
		for _, block := range blocks {
			if !strings.HasPrefix(block, "apiVersion:") {
				continue
			}
			for _, o := range decode(t, []byte(block)) {
				found++
				for _, fault := range s.faults(o) {
					t.Errorf("%s: %s %v%s", path, o["kind"], at(o, "metadata", "name"), fault)
				}
			}
		}
	}
	if found == 0 {
		t.Error("the manual has none: this test looks in the wrong place")
	}
}

func TestBrokenManifestsAreFound(t *testing.T) {
	s := readSchemas(t)
	const pod, multus = "base/resolver.yaml", "overlays/openshift-multus/"
	for _, c := range []struct{ file, old, broken, want string }{
		{pod, "readOnlyRootFilesystem", "readOnlyRootFileSystem", ".spec.template.spec.containers[0].securityContext: has the unknown key readOnlyRootFileSystem"},
		{pod, "replicas: 3", "replicas: three", ".spec.replicas: is not of type integer"},
		{pod, "apiVersion: autoscaling/v2", "apiVersion: autoscaling/v3", "there is no schema of autoscaling/v3 HorizontalPodAutoscaler"},
		{pod, "  selector:\n    matchLabels: {app.kubernetes.io/name: shirube}\n  template", "  template", ".spec: has no selector"},
		{multus + "network.yaml", "config: |-", "configuration: |-", ".spec: has the unknown key configuration"},
		{multus + "scc.yaml", "allowHostPorts: false", "", ": has no allowHostPorts"},
		{multus + "scc.yaml", "allowHostIPC: false", "allowHostIPC: no-one", ".allowHostIPC: is not of type boolean"},
		{multus + "scc.yaml", "priority: 0", "priority: 0\nallowedCapability: []", ": has the unknown key allowedCapability"},
		{"overlays/f5-a10/f5.yaml", `schedule: "* * * * *"`, "schedules: often", ".spec: has no schedule"},
	} {
		var found []string
		for _, o := range decode(t, []byte(strings.Replace(read(t, c.file), c.old, c.broken, 1))) {
			found = append(found, s.faults(o)...)
		}
		if !slices.Contains(found, c.want) || len(found) > 2 {
			t.Errorf("%s: %s in place of %s: found %q, want %q", c.file, c.broken, c.old, found, c.want)
		}
	}
}

// resolver returns the Deployment of a directory, its container, and the
// configuration that it gets.
func resolver(t *testing.T, dir string) (pod, container object, cfg config.Config) {
	t.Helper()
	list := build(t, dir)
	pod, _ = at(find(t, list, "Deployment", "shirube"), "spec", "template", "spec").(object)
	container, _ = at(pod, "containers", 0).(object)
	text, _ := at(find(t, list, "ConfigMap", "shirube"), "data", "shirube.yaml").(string)
	cfg, err := config.Parse(dir, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return pod, container, cfg
}

func TestPodFitsItsConfiguration(t *testing.T) {
	for _, dir := range append([]string{"base", "overlays/stage", "overlays/prod"}, vlanOverlays...) {
		pod, c, cfg := resolver(t, dir)
		checkPorts(t, c, cfg)
		checkFiles(t, c, cfg)
		sleep, _ := at(c, "lifecycle", "preStop", "sleep", "seconds").(float64)
		grace, _ := at(pod, "terminationGracePeriodSeconds").(float64)
		need := time.Duration(sleep)*time.Second + cfg.Drain.Delay + cfg.Limits.DrainTimeout
		if got := time.Duration(grace) * time.Second; sleep == 0 || got < need+5*time.Second {
			t.Errorf("%s: it has %v to end, and needs %v", dir, got, need)
		}
		for _, p := range []struct{ probe, path string }{
			{"startupProbe", "/readyz"}, {"readinessProbe", "/readyz"}, {"livenessProbe", "/livez"},
		} {
			if get := at(c, p.probe, "httpGet"); at(get, "path") != p.path || at(get, "port") != "admin" {
				t.Errorf("%s: the %s asks for %v", dir, p.probe, get)
			}
		}
		if add := at(c, "securityContext", "capabilities", "add"); fmt.Sprint(add) != "[NET_BIND_SERVICE]" {
			t.Errorf("%s: it may %v, and could not be started", dir, add)
		}
	}
}

// checkPorts holds the ports of the container to where the server listens.
func checkPorts(t *testing.T, c object, cfg config.Config) {
	t.Helper()
	want := map[string]bool{"9153/TCP": true}
	for _, l := range cfg.Listen {
		for _, p := range l.Protocols {
			layer := "TCP"
			if p == config.ProtocolUDP || p == config.ProtocolDoQ || p == config.ProtocolDoH3 {
				layer = "UDP"
			}
			want[fmt.Sprintf("%d/%s", l.Address.Port(), layer)] = true
		}
	}
	for _, l := range cfg.Admin.Listen {
		if l.Address.Port() != 9153 {
			t.Errorf("probes would not find the admin listener at %s", l.Address)
		}
	}
	ports, _ := c["ports"].([]any)
	for _, p := range ports {
		port := fmt.Sprintf("%v/%v", at(p, "containerPort"), at(p, "protocol"))
		if !want[port] {
			t.Errorf("the container has port %s, where nobody listens", port)
		}
		delete(want, port)
	}
	if len(want) > 0 {
		t.Errorf("the container has no ports %v", want)
	}
}

// checkFiles holds the files of the configuration to what is mounted.
func checkFiles(t *testing.T, c object, cfg config.Config) {
	t.Helper()
	files := []string{
		cfg.TLS.Certificates[0].CertFile, cfg.TLS.Certificates[0].KeyFile, cfg.TLS.TicketSecretFile, cfg.Cookies.SecretFile,
		cfg.SharedCache.SecretFile, cfg.DNSSEC.StateDirectory + "/", cfg.Control.Socket, cfg.Admin.Listen[0].TokenFile,
	}
	mounts, _ := c["volumeMounts"].([]any)
	for _, file := range files {
		if !slices.ContainsFunc(mounts, func(m any) bool { return strings.HasPrefix(file, fmt.Sprint(at(m, "mountPath"))+"/") }) {
			t.Errorf("%s is in no volume", file)
		}
	}
}

func TestNamesOfTheConfigurationAreServices(t *testing.T) {
	list := build(t, "base")
	_, _, cfg := resolver(t, "base")
	memcached := find(t, list, "Service", "memcached")
	port, _ := at(memcached, "spec", "ports", 0, "name").(string)
	if want := "_" + port + "._tcp.memcached.dns.svc.cluster.local"; cfg.SharedCache.Service.Name != want || at(memcached, "spec", "clusterIP") != "None" {
		t.Errorf("the shared cache is looked for at %s, and is at %s", cfg.SharedCache.Service.Name, want)
	}
	collector := find(t, list, "Service", "dnstap-collector")
	if want := fmt.Sprintf("dnstap-collector.dns.svc.cluster.local:%v", at(collector, "spec", "ports", 0, "port")); cfg.Dnstap.Outputs[0].Address != want {
		t.Errorf("dnstap is sent to %s, and the collector is at %s", cfg.Dnstap.Outputs[0].Address, want)
	}
}

// TestAlertsAndDashboardAreThoseOfMonitoring holds what is in the cluster to what is
// tested in deploy/monitoring, in the base and in what is made of it.
func TestAlertsAndDashboardAreThoseOfMonitoring(t *testing.T) {
	alerts, err := os.ReadFile("../monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dashboard, err := os.ReadFile("../monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, alerts)[0]
	for _, dir := range []string{"base", "overlays/stage", "overlays/prod"} {
		list := build(t, dir)
		rule := find(t, list, "PrometheusRule", "shirube")
		if !reflect.DeepEqual(rule["spec"], any(want)) {
			t.Errorf("%s: the alerts are not those of deploy/monitoring: run go generate ./deploy/kubernetes", dir)
		}
		monitor := find(t, list, "PodMonitor", "shirube")
		if at(monitor, "spec", "jobLabel") != "app.kubernetes.io/name" || at(monitor, "metadata", "namespace") != at(rule, "metadata", "namespace") {
			t.Errorf("%s: the alerts are about the job shirube, and the monitor calls it by %v", dir, at(monitor, "spec", "jobLabel"))
		}
		shown := find(t, list, "ConfigMap", "shirube-dashboard")
		if at(shown, "data", "shirube.json") != string(dashboard) || at(shown, "metadata", "labels", "grafana_dashboard") != "1" {
			t.Errorf("%s: the dashboard is not that of deploy/monitoring, or nobody looks for it", dir)
		}
	}
}

// TestCheckOfARollOutHasItsProfile reads the profile that the Job is given, and
// looks for what deploy/rollout/rollout replaces.
func TestCheckOfARollOutHasItsProfile(t *testing.T) {
	list := build(t, "verify")
	text, _ := at(find(t, list, "ConfigMap", "shirube-verify"), "data", "profile.yaml").(string)
	profile, err := config.ParseProfile("verify/profile.yaml", []byte(text))
	if err != nil {
		t.Error(err)
	}
	job := find(t, list, "Job", "shirube-verify")
	c := at(job, "spec", "template", "spec", "containers", 0)
	if mounts := fmt.Sprint(at(c, "volumeMounts")); profile.CAFile == "" || !strings.Contains(mounts, "mountPath:"+filepath.Dir(profile.CAFile)+" ") {
		t.Errorf("the authorities are to be in %q, and mounted is %s", profile.CAFile, mounts)
	}
	args, _ := at(c, "args").([]any)
	if at(c, "image") != "registry.example/shirube:unset" || !slices.Contains(args, any("--expect-version=unset")) {
		t.Errorf("the image is %v, the arguments %v", at(c, "image"), args)
	}
	pods := find(t, list, "Service", "shirube-pods")
	if !slices.Contains(args, any("--instance=shirube-pods.dns.svc.cluster.local")) || at(pods, "metadata", "namespace") != "dns" || at(pods, "spec", "clusterIP") != "None" || at(pods, "spec", "ipFamilyPolicy") != "SingleStack" {
		t.Errorf("the instances are looked for by %v", args)
	}
	if at(job, "spec", "backoffLimit") != 0.0 || at(job, "spec", "activeDeadlineSeconds") == nil {
		t.Error("the Job is repeated, or has no end")
	}
}

func TestProductionRunsAnImageByItsDigest(t *testing.T) {
	for _, dir := range []string{"overlays/stage", "overlays/prod"} {
		_, c, _ := resolver(t, dir)
		if image, _ := c["image"].(string); !strings.HasPrefix(image, "registry.example/shirube@sha256:") {
			t.Errorf("%s runs %s", dir, image)
		}
	}
}
