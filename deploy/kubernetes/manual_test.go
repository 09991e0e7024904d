package kubernetes_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"shirube/internal/manual"
)

// TestManualIsAboutTheseManifests holds what docs/getting-started.md has people type
// to what the manifests need: there is no cluster to type it at.
func TestManualIsAboutTheseManifests(t *testing.T) {
	for _, section := range [][2]string{{"getting-started.md", "On Kubernetes"}, {"kubernetes.md", "Before the first pod"}} {
		checkManual(t, section[0], section[1])
	}
}

// checkManual holds the commands of one section to the manifests.
func checkManual(t *testing.T, page, section string) {
	t.Helper()
	commands, err := manual.Commands("../../docs/"+page, section)
	if err != nil {
		t.Fatal(err)
	}
	base := read(t, "base/kustomization.yaml")
	namespace := regexp.MustCompile(`(?m)^namespace: (\S+)$`).FindStringSubmatch(base)[1]
	manifests := read(t, "base/resolver.yaml") + "---\n" + read(t, "verify/job.yaml")
	var done []string
	for _, command := range commands {
		words := strings.Fields(command)
		if words[0] != "kubectl" {
			t.Errorf("%s: this test knows no %q", page, command)
			continue
		}
		if i := slices.Index(words, "-n"); i >= 0 && words[i+1] != namespace {
			t.Errorf("%s: %s: the manifests are for the namespace %s", page, command, namespace)
		}
		last := words[len(words)-1]
		switch {
		case strings.HasPrefix(command, "kubectl create namespace "):
			if words[3] != namespace {
				t.Errorf("%s: %s: the manifests are for the namespace %s", page, command, namespace)
			}
		case slices.Contains(words, "secret"):
			name := words[slices.Index(words, "generic")+1]
			if !strings.Contains(manifests, "secretName: "+name+",") {
				t.Errorf("%s: %s: no pod has the secret %s", page, command, name)
			}
			if given, used := secretKeys(command), usedSecrets(t); !slices.Equal(given, used) {
				t.Errorf("%s: it makes the secrets %q, and used are %q", page, given, used)
			}
		case slices.Contains(words, "configmap"):
			name := words[slices.Index(words, "configmap")+1]
			if !strings.Contains(manifests, "configMap: {name: "+name+"}") || !strings.Contains(read(t, "verify/profile.yaml"), "/ca.crt") || !strings.Contains(command, "--from-file=ca.crt=") {
				t.Errorf("%s: %s: no pod has the ConfigMap %s, or its file", page, command, name)
			}
		case slices.Contains(words, "apply"):
			done = append(done, filepath.Base(last))
			if _, err := os.Stat(filepath.Join("../..", last, "kustomization.yaml")); err != nil {
				t.Errorf("%s: %s: %v", page, command, err)
			}
		case slices.Contains(words, "rollout"), slices.Contains(words, "wait"), slices.Contains(words, "logs"):
			done = append(done, last)
			kind, name, _ := strings.Cut(last, "/")
			if !regexp.MustCompile(`(?mi)^kind: ` + kind + `\nmetadata:.*(\n  )?name: ` + name + `\b`).MatchString(manifests) {
				t.Errorf("%s: %s: there is no such", page, command)
			}
		default:
			t.Errorf("%s: this test knows no %q", page, command)
		}
	}
	// What is applied comes up, and is verified.
	want := []string{"deployment/shirube", "verify", "job/shirube-verify", "job/shirube-verify"}
	if len(done) != 5 || !slices.Equal(done[1:], want) {
		t.Errorf("%s: done is %q; expected an overlay, and %q", page, done, want)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// secretKeys returns the keys of the secret that a command makes, sorted.
func secretKeys(command string) []string {
	return matches(`--from-literal=([a-z-]+)=`, command)
}

// usedSecrets returns the files of the secret that the configuration names, sorted.
func usedSecrets(t *testing.T) []string {
	t.Helper()
	return matches(`/etc/shirube-secrets/([a-z-]+)`, read(t, "base/shirube.yaml"))
}

// matches returns what an expression finds in its parentheses, each once, sorted.
func matches(expression, text string) []string {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return slices.Sorted(maps.Keys(found))
}
