// Command gen writes schemas.json: of what kinds of Kubernetes the manifests here
// have, strict JSON schemas, without texts. They come from the modules that define
// the kinds, at the versions below. And base/alerts.yaml, which is the alerts of
// deploy/monitoring as an object of Kubernetes. Run it with
// `go generate ./deploy/kubernetes`.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kubernetes is the module with the kinds of Kubernetes itself, and the file.
const (
	kubernetes = "k8s.io/kubernetes@v1.32.13"
	swagger    = "api/openapi-spec/swagger.json"
)

// builtin are kinds of Kubernetes itself, by their definitions.
var builtin = []string{
	"core.v1.ServiceAccount", "core.v1.Service", "core.v1.ConfigMap", "core.v1.Namespace",
	"apps.v1.Deployment", "apps.v1.StatefulSet", "policy.v1.PodDisruptionBudget",
	"autoscaling.v2.HorizontalPodAutoscaler", "networking.v1.NetworkPolicy",
	"rbac.v1.Role", "rbac.v1.RoleBinding", "batch.v1.Job", "batch.v1.CronJob",
}

// custom are files of custom resource definitions, by their modules.
var custom = map[string][]string{
	"github.com/cert-manager/cert-manager@v1.21.2": {"deploy/crds/cert-manager.io_certificates.yaml"},
	"github.com/prometheus-operator/prometheus-operator@v0.85.0": {
		"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
	},
	"github.com/k8snetworkplumbingwg/network-attachment-definition-client@v1.7.7": {"artifacts/networks-crd.yaml"},
	"go.universe.tf/metallb@v0.16.2": {
		"config/crd/bases/metallb.io_bfdprofiles.yaml", "config/crd/bases/metallb.io_bgpadvertisements.yaml",
		"config/crd/bases/metallb.io_bgppeers.yaml", "config/crd/bases/metallb.io_ipaddresspools.yaml",
	},
	"open-cluster-management.io/api@v1.1.0": {
		"cluster/v1beta1/0000_02_clusters.open-cluster-management.io_placements.crd.yaml",
		"cluster/v1beta2/0000_01_clusters.open-cluster-management.io_managedclustersetbindings.crd.yaml",
	},
	"open-cluster-management.io/multicloud-operators-subscription@v0.16.0": {
		"deploy/crds/apps.open-cluster-management.io_subscriptions_crd_v1.yaml",
		"deploy/olm-catalog/multicluster-operators-subscription/manifests/apps.open-cluster-management.io_channels_crd_v1.yaml",
	},
	"github.com/openshift/api@v0.0.0-20260813212709-d4bb0b443cb8": {"payload-manifests/crds/0000_03_config-operator_01_securitycontextconstraints.crd.yaml"},
	"github.com/argoproj/argo-cd/v2@v2.14.11":                     {"manifests/crds/applicationset-crd.yaml"},
}

type object = map[string]any

func main() {
	if err := errors.Join(write("schemas.json"), wrapAlerts("../monitoring/alerts.yaml", "base/alerts.yaml")); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// write writes the schemas: of each kind, by `apiVersion/kind`, and what they refer
// to.
func write(file string) error {
	kinds, definitions := object{}, object{}
	if err := addBuiltin(kinds, definitions); err != nil {
		return err
	}
	for module, files := range custom {
		for _, name := range files {
			if err := addCustom(kinds, module, name); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(object{"kinds": kinds, "definitions": definitions})
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// rule is what the alerts are put below: kustomize cannot make an object of a file
// that is none.
const rule = `# Made of ../../monitoring/alerts.yaml by go generate: do not change it here.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: shirube
  labels: {app.kubernetes.io/name: shirube}
spec:
`

// wrapAlerts writes the alerts of a file of Prometheus as an object.
func wrapAlerts(from, to string) error {
	alerts, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	out := []byte(rule)
	for line := range bytes.Lines(alerts) {
		if !bytes.HasPrefix(line, []byte("#")) {
			out = append(append(out, "  "...), line...)
		}
	}
	return os.WriteFile(to, out, 0o644)
}

// open reads a file of a module, which is brought here if it has to be.
func open(module, file string, doc any) error {
	out, err := exec.CommandContext(context.Background(), "go", "mod", "download", "-json", module).Output()
	if err != nil {
		return fmt.Errorf("%s: %w", module, err)
	}
	var at struct{ Dir string }
	if err := json.Unmarshal(out, &at); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(at.Dir, file))
	if err != nil {
		return err
	}
	if strings.HasSuffix(file, ".json") {
		return json.Unmarshal(text, doc)
	}
	return yaml.Unmarshal(text, doc)
}

// addBuiltin adds the kinds of Kubernetes itself.
func addBuiltin(kinds, definitions object) error {
	var api struct{ Definitions object }
	if err := open(kubernetes, swagger, &api); err != nil {
		return err
	}
	for _, name := range builtin {
		name = "io.k8s.api." + name
		d, ok := api.Definitions[name].(object)
		if !ok {
			return fmt.Errorf("%s has no %s", kubernetes, name)
		}
		is := d["x-kubernetes-group-version-kind"].([]any)[0].(object)
		version := is["version"].(string)
		if group := is["group"].(string); group != "" {
			version = group + "/" + version
		}
		kinds[version+"/"+is["kind"].(string)] = object{"$ref": "#/definitions/" + name}
		follow(api.Definitions, definitions, name)
	}
	return nil
}

// follow adds a definition, and those that it refers to.
func follow(from, to object, name string) {
	if _, there := to[name]; there {
		return
	}
	var d object
	switch {
	case strings.HasSuffix(name, ".Quantity"), strings.HasSuffix(name, ".IntOrString"):
		d = numberOrText()
	default:
		d, _ = strict(from[name]).(object)
	}
	to[name] = d
	var look func(any)
	look = func(v any) {
		switch v := v.(type) {
		case object:
			if ref, ok := v["$ref"].(string); ok {
				follow(from, to, strings.TrimPrefix(ref, "#/definitions/"))
			}
			for _, sub := range v {
				look(sub)
			}
		case []any:
			for _, sub := range v {
				look(sub)
			}
		}
	}
	look(d)
}

// addCustom adds the versions of a custom resource.
func addCustom(kinds object, module, file string) error {
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPI object `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := open(module, file, &crd); err != nil {
		return err
	}
	for _, v := range crd.Spec.Versions {
		s, ok := strict(v.Schema.OpenAPI).(object)
		if !ok || s["properties"] == nil {
			return fmt.Errorf("%s: %s has no schema", module, file)
		}
		p := s["properties"].(object)
		p["apiVersion"], p["kind"] = object{"type": "string"}, object{"type": "string"} // not every definition has them
		p["metadata"] = object{"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
		delete(p, "status")
		kinds[crd.Spec.Group+"/"+v.Name+"/"+crd.Spec.Names.Kind] = s
	}
	return nil
}

func numberOrText() object {
	return object{"anyOf": []any{object{"type": "string"}, object{"type": "number"}}}
}

// kept are the keywords that say what a value has to be. What is said in words, in
// CEL and by combinations is left to the API server.
var kept = map[string]bool{
	"$ref": true, "type": true, "enum": true, "pattern": true, "minimum": true, "maximum": true, "minLength": true, "maxLength": true,
	"minItems": true, "maxItems": true, "required": true, "items": true,
}

// unused are generators of an ApplicationSet that hold all others once more.
var unused = map[string]bool{"matrix": true, "merge": true}

// strict returns a schema in which no key is unknown, unless all are.
func strict(v any) any {
	s, ok := v.(object)
	if !ok {
		return v
	}
	if s["x-kubernetes-int-or-string"] == true || s["format"] == "int-or-string" {
		return numberOrText()
	}
	out := object{}
	for key, value := range s {
		if kept[key] {
			out[key] = strict(value)
		}
	}
	if p, ok := s["properties"].(object); ok {
		properties := object{}
		for name, sub := range p {
			if !unused[name] {
				properties[name] = strict(sub)
			}
		}
		out["properties"] = properties
	}
	switch more := s["additionalProperties"].(type) {
	case object:
		out["additionalProperties"] = strict(more)
	case nil:
		if out["properties"] != nil && s["x-kubernetes-preserve-unknown-fields"] != true {
			out["additionalProperties"] = false
		}
	}
	return out
}
