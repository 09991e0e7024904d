//go:build deb

// What takes long, and root: `make deb-test`.

package debian_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// output runs a program, which has to succeed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// build makes a package for an architecture, and returns its file and octets.
func build(t *testing.T, arch, name string) (file string, octets []byte) {
	t.Helper()
	file = "../../" + strings.TrimSpace(output(t, "../../tools/deb", arch, name))
	octets, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, octets
}

func TestPackage(t *testing.T) {
	root := t.TempDir()
	output(t, "debootstrap", "--variant=minbase", "bookworm", root)
	for _, name := range []string{"shirube", "shirube-announce"} {
		for _, arch := range []string{"amd64", "arm64"} {
			file, octets := build(t, arch, name)
			if _, again := build(t, arch, name); !bytes.Equal(octets, again) {
				t.Errorf("%s: %s is another one when it is built again", arch, name)
			}
			if found := output(t, "lintian", "--allow-root", "--fail-on", "warning,error", "--tag-display-limit", "0", file); found != "" {
				t.Errorf("%s: lintian is not content:\n%s", arch, found)
			}
			if arch != runtime.GOARCH {
				continue // it cannot be tried here
			}
			if err := os.WriteFile(filepath.Join(root, name+".deb"), octets, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := &debian{root: root}
	t.Run("beside nobody it is enabled", func(t *testing.T) { beside(t, d, "", true) })
	t.Run("beside a resolver on 127.0.0.1 it is not", func(t *testing.T) { beside(t, d, "127.0.0.1:53", false) })
	t.Run("beside a resolver on all addresses it is not", func(t *testing.T) { beside(t, d, "[::]:53", false) })
	t.Run("beside systemd-resolved it is enabled", func(t *testing.T) { beside(t, d, "127.0.0.53:53", true) })
	t.Run("what the operator wrote stays", func(t *testing.T) { keeps(t, d) })
	t.Run("the announcer announces nothing by itself", func(t *testing.T) { announces(t, d) })
}

// debian is a system in a directory.
type debian struct{ root string }

// run runs a command in it, in the network that this thread is in.
func (d *debian) run(t *testing.T, args ...string) string {
	t.Helper()
	out := output(t, "unshare", append([]string{
		"--mount", "sh", "-c", `mount -t proc proc "$0/proc" && exec chroot "$0" "$@" 2>&1`, d.root,
	}, args...)...)
	return out
}

const link = "etc/systemd/system/multi-user.target.wants/shirube.service"

// beside installs the package where somebody listens on an address, and removes it
// without a trace.
func beside(t *testing.T, d *debian, address string, enabled bool) {
	// The thread is not given back to others: it ends with this goroutine.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	output(t, "ip", "link", "set", "lo", "up")
	if address != "" {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	said := d.run(t, "dpkg", "-i", "/shirube.deb")
	if got := exists(d, link); got != enabled {
		t.Errorf("enabled is %t, want %t; it said\n%s", got, enabled, said)
	}
	if got := strings.Contains(said, "systemctl enable --now shirube"); got == enabled {
		t.Errorf("it said\n%s", said)
	}
	if got := d.run(t, "shirube", "check", "/etc/shirube/shirube.yaml"); got != "/etc/shirube/shirube.yaml: ok\n" {
		t.Errorf("its file is not good: %s", got)
	}
	for _, line := range []string{d.run(t, "dpkg", "--verify", "shirube"), d.run(t, "dpkg", "--audit")} {
		if strings.TrimSpace(line) != "" {
			t.Errorf("dpkg has found %s", line)
		}
	}
	d.run(t, "dpkg", "--purge", "shirube")
	for _, path := range []string{link, "etc/shirube", "usr/bin/shirube", "usr/share/doc/shirube", "var/lib/shirube"} {
		if exists(d, path) {
			t.Errorf("%s is left when it is purged", path)
		}
	}
}

// keeps changes the configuration and installs the package once more.
func keeps(t *testing.T, d *debian) {
	d.run(t, "dpkg", "-i", "/shirube.deb")
	file := filepath.Join(d.root, "etc/shirube/shirube.yaml")
	if err := os.WriteFile(file, []byte("log:\n  level: debug\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.run(t, "dpkg", "-i", "/shirube.deb")
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "log:") {
		t.Errorf("it has been replaced by\n%s%v", text, err)
	}
	d.run(t, "dpkg", "--remove", "shirube")
	if !exists(d, "etc/shirube/shirube.yaml") {
		t.Error("it is gone when the package is removed")
	}
}

// announces installs the announcer, and removes it without a trace.
func announces(t *testing.T, d *debian) {
	d.run(t, "dpkg", "-i", "/shirube-announce.deb")
	if exists(d, "etc/systemd/system/multi-user.target.wants/shirube-announce.service") {
		t.Error("it is enabled before anybody has said what to announce")
	}
	if got := d.run(t, "shirube-announce", "--check"); got != "/etc/shirube/announce.yaml: ok\n" {
		t.Errorf("its file is not good: %s", got)
	}
	if got := d.run(t, "grep", "-c", "shirube-announce", "/usr/share/bash-completion/completions/shirube-announce"); got == "0\n" {
		t.Error("there are no completions")
	}
	for _, line := range []string{d.run(t, "dpkg", "--verify", "shirube-announce"), d.run(t, "dpkg", "--audit")} {
		if strings.TrimSpace(line) != "" {
			t.Errorf("dpkg has found %s", line)
		}
	}
	d.run(t, "dpkg", "--purge", "shirube-announce")
	for _, path := range []string{"etc/shirube/announce.yaml", "usr/bin/shirube-announce", "usr/share/doc/shirube-announce"} {
		if exists(d, path) {
			t.Errorf("%s is left when it is purged", path)
		}
	}
}

func exists(d *debian, path string) bool {
	_, err := os.Lstat(filepath.Join(d.root, path))
	return err == nil
}
