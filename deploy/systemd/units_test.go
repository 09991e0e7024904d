// Package systemd_test holds the files for systemd to what they say of the
// server, and to what systemd says of them.
package systemd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"shirube/internal/config"
)

// unit is the assignments of a unit file, by section and key.
type unit map[string]map[string][]string

// readUnit reads a unit file (systemd.syntax(7)).
func readUnit(t *testing.T, file string) unit {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	u, section := unit{}, ""
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "", line[0] == '#', line[0] == ';':
			continue
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1 : len(line)-1]
			u[section] = map[string][]string{}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section == "" || strings.HasSuffix(line, `\`) {
			t.Fatalf("%s:%d: found %q; expected KEY=VALUE in a section, on one line", file, i+1, line)
		}
		u[section][key] = append(u[section][key], value)
	}
	return u
}

// one returns the only value of a key.
func (u unit) one(t *testing.T, section, key string) string {
	t.Helper()
	if values := u[section][key]; len(values) == 1 {
		return values[0]
	}
	t.Errorf("[%s] %s: found %q; expected one value", section, key, u[section][key])
	return ""
}

func TestServiceRunsTheServerAsItIs(t *testing.T) {
	u := readUnit(t, "shirube.service")
	for key, want := range map[string]string{
		"ExecStart":        "/usr/bin/shirube serve --config /etc/shirube/shirube.yaml",
		"ExecReload":       "/usr/bin/shirube ctl reload",
		"Type":             "notify",
		"NotifyAccess":     "main",
		"DynamicUser":      "yes",
		"RuntimeDirectory": "shirube", // the control socket: /run/shirube/control.sock
		"StateDirectory":   "shirube",
	} {
		if got := u.one(t, "Service", key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	if n, err := strconv.Atoi(u.one(t, "Service", "FileDescriptorStoreMax")); err != nil || n < 1024 {
		t.Errorf("it may leave %d sockets: too few for many CPUs", n)
	}
	if n, err := strconv.Atoi(u.one(t, "Service", "LimitNOFILE")); err != nil || n < 10_000+4096+256 {
		t.Errorf("it may have %d descriptors: too few for the default limits", n)
	}
	stop, err := time.ParseDuration(u.one(t, "Service", "TimeoutStopSec") + "s")
	if err != nil || stop < 30*time.Second {
		t.Errorf("it has %v to stop: too few to drain", stop)
	}
}

// announcer is the unit of the program that announces addresses.
const announcer = "shirube-announce.service"

func TestAnnouncerRunsAsTheResolversUser(t *testing.T) {
	u := readUnit(t, announcer)
	for key, want := range map[string]string{
		"ExecStart":   "/usr/bin/shirube-announce --config /etc/shirube/announce.yaml",
		"Type":        "notify",
		"DynamicUser": "yes",
		"User":        readUnit(t, "shirube.service").one(t, "Service", "User"), // it may use the admin socket
	} {
		if got := u.one(t, "Service", key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	if after := u.one(t, "Unit", "After"); !strings.Contains(after, "shirube.service") {
		t.Errorf("After=%s: the resolver would be stopped first", after)
	}
	limits := map[string]int64{}
	for _, k := range config.AnnouncerKeys() {
		for _, sub := range k.Keys {
			limits[sub.Path] = sub.Max
		}
	}
	stop, err := time.ParseDuration(u.one(t, "Service", "TimeoutStopSec") + "s")
	if most := time.Duration(limits["drain.graceful"] + limits["drain.settle"]); err != nil || stop <= most {
		t.Errorf("it has %v to stop; draining may take %v", stop, most)
	}
	dog, err := time.ParseDuration(u.one(t, "Service", "WatchdogSec") + "s")
	if most := time.Duration(limits["probes.interval"]); err != nil || dog <= most {
		t.Errorf("it has to be heard within %v; rounds may be %v apart", dog, most)
	}
}

func TestSocketUnitIsForTheService(t *testing.T) {
	u := readUnit(t, "shirube.socket")
	if got := u.one(t, "Socket", "Service"); got != "shirube.service" {
		t.Errorf("it is for %s", got)
	}
	udp, tcp := u["Socket"]["ListenDatagram"], u["Socket"]["ListenStream"]
	if len(udp) == 0 || !slices.Equal(udp, tcp) {
		t.Errorf("it has %q for UDP and %q for TCP", udp, tcp)
	}
}

func TestSysctlsAreEnoughForTheDefaults(t *testing.T) {
	text, err := os.ReadFile("sysctl.conf")
	if err != nil {
		t.Fatal(err)
	}
	least := map[string]int{"net.core.rmem_max": 4 << 20, "net.core.wmem_max": 1 << 20} // udp.receive_buffer, udp.send_buffer
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		n, err := strconv.Atoi(value)
		if !ok || err != nil {
			t.Errorf("found %q; expected KEY = NUMBER", line)
		}
		if n < least[key] {
			t.Errorf("%s is %d, want %d", key, n, least[key])
		}
		delete(least, key)
	}
	if len(least) > 0 {
		t.Errorf("nothing is said of %v", least)
	}
}

// maxExposure is ten times the exposure that `systemd-analyze security` may give
// the service: 1.5.
const maxExposure = "15"

// analyze runs systemd-analyze on a root directory that has the units in place,
// and the program that they run.
func analyze(t *testing.T, units map[string]string, args ...string) string {
	t.Helper()
	root := t.TempDir()
	system := filepath.Join(root, "usr/lib/systemd/system")
	if err := os.CopyFS(system, os.DirFS("/usr/lib/systemd/system")); err != nil {
		t.Fatal(err)
	}
	for name, text := range units {
		if err := os.WriteFile(filepath.Join(system, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"shirube", "shirube-announce"} {
		if err := os.WriteFile(filepath.Join(root, "usr/bin", program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("systemd-analyze", append([]string{args[0], "--root=" + root}, args[1:]...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if out, err := cmd.Output(); err != nil {
		return stderr.String() + string(out) + err.Error()
	}
	return stderr.String() // unknown keys are told, and no error
}

// ours returns the units.
func ours(t *testing.T) map[string]string {
	t.Helper()
	units := make(map[string]string)
	for _, name := range []string{"shirube.service", "shirube.socket", announcer} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		units[name] = string(text)
	}
	return units
}

func TestSystemdHasNothingToSayAboutTheUnits(t *testing.T) {
	units := ours(t)
	if got := about(analyze(t, units, "verify", "shirube.service", "shirube.socket", announcer)); got != "" {
		t.Error(got)
	}
	for _, name := range []string{"shirube.service", announcer} {
		if got := analyze(t, units, "security", "--offline=true", "--threshold="+maxExposure, name); got != "" {
			t.Error(got)
		}
	}
	// And it would say so.
	units["shirube.service"] = strings.Replace(units["shirube.service"], "DynamicUser=", "DynamikUser=", 1)
	if got := about(analyze(t, units, "verify", "shirube.service")); !strings.Contains(got, "DynamikUser") {
		t.Errorf("a mistake goes unnoticed: %q", got)
	}
	units["shirube.service"] = strings.Replace(units["shirube.service"], "ProtectSystem=strict", "ProtectSystem=no", 1)
	if got := analyze(t, units, "security", "--offline=true", "--threshold="+maxExposure, "shirube.service"); got == "" {
		t.Error("an exposed service goes unnoticed")
	}
}

// about returns the lines that are about our units: the machine's own may have
// faults.
func about(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "shirube") {
			b.WriteString(line)
		}
	}
	return b.String()
}
