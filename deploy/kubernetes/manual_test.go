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
	commands, err := manual.Commands("../../docs/getting-started.md", "On Kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	base := read(t, "base/kustomization.yaml")
	namespace := regexp.MustCompile(`(?m)^namespace: (\S+)$`).FindStringSubmatch(base)[1]
	resolver := read(t, "base/resolver.yaml")
	applied := false
	for _, command := range commands {
		words := strings.Fields(command)
		if words[0] != "kubectl" {
			t.Errorf("this test knows no %q", command)
			continue
		}
		if i := slices.Index(words, "-n"); i >= 0 && words[i+1] != namespace {
			t.Errorf("%s: the manifests are for the namespace %s", command, namespace)
		}
		switch {
		case strings.HasPrefix(command, "kubectl create namespace "):
			if words[3] != namespace {
				t.Errorf("%s: the manifests are for the namespace %s", command, namespace)
			}
		case slices.Contains(words, "secret"):
			name := words[slices.Index(words, "generic")+1]
			if !strings.Contains(resolver, "secretName: "+name+",") {
				t.Errorf("%s: no pod has the secret %s", command, name)
			}
			if given, used := secretKeys(command), usedSecrets(t); !slices.Equal(given, used) {
				t.Errorf("it makes the secrets %q, and used are %q", given, used)
			}
		case slices.Contains(words, "apply"):
			applied = true
			if _, err := os.Stat(filepath.Join("../..", words[len(words)-1], "kustomization.yaml")); err != nil {
				t.Errorf("%s: %v", command, err)
			}
		case slices.Contains(words, "rollout"):
			kind, name, _ := strings.Cut(words[len(words)-1], "/")
			if !regexp.MustCompile(`(?mi)^kind: ` + kind + `\nmetadata:.*(\n  )?name: ` + name + `\b`).MatchString(resolver) {
				t.Errorf("%s: there is no such", command)
			}
		default:
			t.Errorf("this test knows no %q", command)
		}
	}
	if !applied {
		t.Error("nothing is applied")
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
