// Package imagetest runs the container image, for tests.
package imagetest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Podman returns a function that runs podman, with images and containers of its own,
// and fails the test if that does not succeed.
func Podman(t testing.TB) func(args ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shirube-") //nolint:usetesting // podman wants a shorter name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what cannot be removed is in the directory for such things
	return func(args ...string) string {
		t.Helper()
		all := append([]string{
			"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs",
			"--cgroup-manager", "cgroupfs", "--runtime", "/usr/sbin/runc",
		}, args...)
		out, err := exec.Command("podman", all...).CombinedOutput() //nolint:noctx // cleanups run it when the test's context is done
		if err != nil {
			t.Fatalf("podman %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
}
