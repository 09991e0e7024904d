//go:build image

// What takes long, and root: `make image-test`.

package image_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shirube/deploy/image/imagetest"
	"shirube/internal/manual"
)

const (
	maxImage = 30 << 20 // octets of a layer, compressed
	patience = 30 * time.Second
	archive  = "../../dist/shirube-image.tar"

	nobody = "65532:65532"
	// bindService is the extended attribute of cap_net_bind_service=+ep
	// (capability.h: vfs_cap_data, version 2, effective; capability 10).
	bindService = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

	memory = 512 << 20 // that a container may have
)

// build makes the image, and returns its digest.
func build(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("../../tools/image").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	words := strings.Fields(string(out))
	return words[len(words)-1]
}

func TestImage(t *testing.T) {
	digest := build(t)
	t.Run("is the same when it is built again", func(t *testing.T) {
		if again := build(t); again != digest {
			t.Errorf("its digest is %s, and then %s", digest, again)
		}
	})
	t.Run("is for two architectures", func(t *testing.T) { checkArchive(t, digest) })
	t.Run("runs as in Kubernetes", runs)
	t.Run("runs as in the manual", runsAsInTheManual)
}

// descriptor is one of the image specification's.
type descriptor struct {
	Digest   string
	Size     int64
	Platform struct{ Architecture string }
}

// layout is a directory with an unpacked OCI archive.
type layout string

func (l layout) blob(digest string) string {
	return filepath.Join(string(l), "blobs", strings.Replace(digest, ":", "/", 1))
}

// read reads a JSON document.
func (l layout) read(t *testing.T, file string, doc any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, doc); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func checkArchive(t *testing.T, digest string) {
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l := layout(dir)
	var index struct{ Manifests []descriptor }
	l.read(t, l.blob(digest), &index)
	var archs []string
	for _, m := range index.Manifests {
		archs = append(archs, m.Platform.Architecture)
		checkImage(t, l, m)
	}
	if !slices.Equal(archs, []string{"amd64", "arm64"}) {
		t.Errorf("it is for %q", archs)
	}
}

// checkImage holds the image of one architecture to what it is to be.
func checkImage(t *testing.T, l layout, m descriptor) {
	t.Helper()
	var manifest struct {
		Config      descriptor
		Layers      []descriptor
		Annotations map[string]string
	}
	l.read(t, l.blob(m.Digest), &manifest)
	var c struct {
		Architecture string
		Config       struct {
			User            string
			Entrypoint, Cmd []string
			Labels          map[string]string
		}
	}
	l.read(t, l.blob(manifest.Config.Digest), &c)
	arch := m.Platform.Architecture
	if c.Architecture != arch || c.Config.User != nobody || !slices.Equal(c.Config.Entrypoint, []string{"/usr/bin/shirube"}) || c.Config.Cmd[0] != "serve" {
		t.Errorf("%s: the configuration is %+v", arch, c)
	}
	for _, name := range []string{"title", "version", "revision", "created"} {
		name = "org.opencontainers.image." + name
		if c.Config.Labels[name] == "" || manifest.Annotations[name] == "" {
			t.Errorf("%s: nothing is said of %s", arch, name)
		}
	}
	if len(manifest.Layers) != 1 || manifest.Layers[0].Size > maxImage {
		t.Fatalf("%s: it has the layers %+v", arch, manifest.Layers)
	}
	files := readLayer(t, l.blob(manifest.Layers[0].Digest))
	if f := files["usr/bin/shirube"]; f == nil || f.PAXRecords["SCHILY.xattr.security.capability"] != bindService {
		t.Errorf("%s: the program may not bind port 53: %+v", arch, f)
	}
	for _, name := range []string{"etc/shirube/shirube.yaml", "usr/share/doc/shirube/sbom.cdx.json", "usr/share/doc/shirube/licences"} {
		if f := files[name]; f == nil || f.Size == 0 || f.Mode&0o777 != 0o644 {
			t.Errorf("%s: %s is %+v", arch, name, f)
		}
	}
	if f := files["var/lib/shirube"]; f == nil || fmt.Sprintf("%d:%d", f.Uid, f.Gid) != nobody {
		t.Errorf("%s: the server has no directory for its state: %+v", arch, f)
	}
}

// readLayer returns the headers of the files of a layer, by name.
func readLayer(t *testing.T, file string) map[string]*tar.Header {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*tar.Header{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // archive/tar says so
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[strings.Trim(h.Name, "/")] = h
	}
}

// runsAsInTheManual types what docs/getting-started.md says, in its order.
func runsAsInTheManual(t *testing.T) {
	commands, err := manual.Commands("../../docs/getting-started.md", "As a container")
	if err != nil {
		t.Fatal(err)
	}
	podman, image, typed := imagetest.Podman(t), "", 0
	t.Cleanup(func() { podman("rm", "--force", "--ignore", "shirube") })
	for _, command := range commands {
		words := strings.Fields(command)
		switch {
		case command == "make image": // which is what the tests here begin with
		case words[0] == "podman" && words[1] == "load":
			loaded := podman("load", "--quiet", "-i", "../../"+words[3])
			_, image, _ = strings.Cut(loaded, ": ")
		case words[0] == "podman" && words[1] == "run":
			if words[len(words)-1] != "localhost/shirube:VERSION" || !strings.HasPrefix(image, "localhost/shirube:") {
				t.Fatalf("it says %s, and the image is %s", words[len(words)-1], image)
			}
			// Beyond what it says: not every machine lets podman raise limits.
			args := append(words[1:len(words)-1:len(words)-1], "--ulimit", "nofile=16384:16384", "--ulimit", "nproc=4096:4096", image)
			podman(args...)
		case words[0] == "dig":
			words[len(words)-1] = "localhost." // there may be no Internet
			for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
				out, _ := exec.Command("dig", append(words[1:], "+short", "+time=1", "+tries=1")...).CombinedOutput()
				if strings.Contains(string(out), "127.0.0.1") {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s: %s\n%s", command, out, podman("logs", "shirube"))
				}
			}
		case words[0] == "bin/shirube":
			verifies(t, words[1:])
		default:
			t.Errorf("this test cannot type %q", command)
		}
		typed++
	}
	if typed < 5 {
		t.Errorf("only %d commands: %q", typed, commands)
	}
}

// noInternet is added to the profile of the manual: nothing is asked that only the
// Internet can answer. The test of deploy/kubernetes that runs pods has one of its
// own, and asks all.
const noInternet = `
questions:
  good: {name: ""}
  bogus: {name: ""}
  unsigned: {name: ""}
  denied: {name: ""}
  empty: {name: ""}
`

// verifies types the command that checks the container, with the profile that the
// manual has before it.
func verifies(t *testing.T, args []string) {
	t.Helper()
	profiles, err := manual.Blocks("../../docs/getting-started.md", "As a container", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "verify.yaml")
	if err := os.WriteFile(file, []byte(profiles[0]+noInternet), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, arg := range args {
		if arg == "verify.yaml" {
			args[i] = file
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"run", "../../cmd/shirube"}, args...)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "5 passed, 0 failed") {
		t.Errorf("%v\n%s", err, out)
	}
}

// runs starts the image as a kubelet does: another user than root, one capability,
// nothing to write to, and limits.
func runs(t *testing.T) {
	podman := imagetest.Podman(t)
	loaded := podman("load", "--quiet", "-i", archive)
	_, image, _ := strings.Cut(loaded, ": ")
	const name = "shirube-image-test"
	podman("run", "--detach", "--name", name, "--network", "none", "--read-only", "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE",
		"--security-opt", "no-new-privileges", "--ulimit", "nofile=16384:16384", "--ulimit", "nproc=4096:4096",
		"--memory", fmt.Sprint(memory), "--cpus", "1", image)
	t.Cleanup(func() { podman("rm", "--force", name) })

	pid := podman("inspect", "--format", "{{.State.Pid}}", name)
	answer := ""
	for end := time.Now().Add(patience); !strings.Contains(answer, "127.0.0.1"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not answer: %s\n%s", answer, podman("logs", name))
		}
		out, _ := exec.Command("nsenter", "-t", pid, "-n", "dig", "@127.0.0.1", "+time=1", "+tries=1", "+short", "localhost.").CombinedOutput()
		answer = string(out)
	}
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65532\t65532", "CapEff:\t0000000000000400", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("it does not run with %q:\n%s", line, status)
		}
	}
	if want := fmt.Sprintf(`"allowed":%d,"answers":%d`, memory, memory/100*40); !strings.Contains(podman("logs", name), want) {
		t.Errorf("it does not know its memory, %s:\n%s", want, podman("logs", name))
	}
	podman("stop", "--time", "20", name)
	if code := podman("inspect", "--format", "{{.State.ExitCode}}", name); code != "0" {
		t.Errorf("it ended with %s\n%s", code, podman("logs", name))
	}
}
