// Package members tells which pods a load balancer outside of a Kubernetes cluster is
// to ask, and at which addresses of networks that Multus has given them.
package members

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

const (
	// maxPods bounds the pods that are looked at.
	maxPods = 20_000
	// maxFile bounds what is read of a file.
	maxFile = 256 << 20
	// maxNetworks and maxAddresses bound what is taken from one pod.
	maxNetworks, maxAddresses = 64, 64
)

// networkStatus is the annotation in which Multus tells the networks of a pod
// (k8snetworkplumbingwg, Network CRD de-facto standard §5.2).
const networkStatus = "k8s.v1.cni.cncf.io/network-status"

// Pod is what matters of a Kubernetes pod.
type Pod struct {
	Metadata struct {
		Name, Namespace   string
		Labels            map[string]string
		Annotations       map[string]string
		DeletionTimestamp *string
	}
	Spec   struct{ NodeName string }
	Status struct {
		Phase      string
		Conditions []struct{ Type, Status string }
	}
}

// ready reports whether clients may be sent to the pod, now and in the next seconds.
func (p *Pod) ready() bool {
	if p.Metadata.DeletionTimestamp != nil || p.Status.Phase != "Running" {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// Member is a pod that is ready, and where it is in one network.
type Member struct {
	Pod       string       `json:"pod"`
	Namespace string       `json:"namespace"`
	Node      string       `json:"node"`
	Network   string       `json:"network"`
	Interface string       `json:"interface"`
	Addresses []netip.Addr `json:"addresses"`
}

// Filter says which networks and addresses count. What is empty says nothing.
type Filter struct {
	Network   string // as in the annotation, namespace/name, or a name in the pod's namespace
	Interface string
	Family    int // 4 or 6
}

// network is one of the annotation.
type network struct {
	Name, Interface string
	IPs             []string
	Default         bool // of the cluster
}

// Of returns the members among pods, by namespace, name and interface, and a
// complaint for each pod that is ready and is none.
func Of(pods []Pod, f Filter) (list []Member, complaints []error) {
	for i := range pods {
		p := &pods[i]
		if !p.ready() {
			continue
		}
		some, err := f.of(p)
		if err != nil {
			complaints = append(complaints, fmt.Errorf("the pod %s/%s is ready, and left out: %w", p.Metadata.Namespace, p.Metadata.Name, err))
			continue
		}
		list = append(list, some...)
	}
	slices.SortFunc(list, func(a, b Member) int {
		return strings.Compare(a.Namespace+"\x00"+a.Pod+"\x00"+a.Interface, b.Namespace+"\x00"+b.Pod+"\x00"+b.Interface)
	})
	return list, complaints
}

// of returns where a pod is.
func (f Filter) of(p *Pod) (list []Member, err error) {
	text, ok := p.Metadata.Annotations[networkStatus]
	if !ok {
		return nil, fmt.Errorf("it has no annotation %s: Multus has given it no network", networkStatus)
	}
	var networks []network
	if err := json.Unmarshal([]byte(text), &networks); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", networkStatus, err)
	}
	if len(networks) > maxNetworks {
		return nil, fmt.Errorf("annotation %s: found %d networks; expected %d at most", networkStatus, len(networks), maxNetworks)
	}
	for _, n := range networks {
		if !f.takes(n, p.Metadata.Namespace) {
			continue
		}
		addresses, err := f.addresses(n)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: network %s: %w", networkStatus, n.Name, err)
		}
		if addresses != nil {
			list = append(list, Member{p.Metadata.Name, p.Metadata.Namespace, p.Spec.NodeName, n.Name, n.Interface, addresses})
		}
	}
	if list == nil {
		return nil, errors.New("it has no address in such a network")
	}
	return list, nil
}

// takes reports whether a network counts. The cluster's own does only if it is asked
// for.
func (f Filter) takes(n network, namespace string) bool {
	switch {
	case f.Network == "" && f.Interface == "":
		return !n.Default
	case f.Interface != "" && f.Interface != n.Interface:
		return false
	}
	return f.Network == "" || f.Network == n.Name || namespace+"/"+f.Network == n.Name
}

// addresses returns those that count.
func (f Filter) addresses(n network) (list []netip.Addr, err error) {
	if len(n.IPs) > maxAddresses {
		return nil, fmt.Errorf("found %d addresses; expected %d at most", len(n.IPs), maxAddresses)
	}
	for _, text := range n.IPs {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("found %q; expected an IP address", text)
		}
		if a = a.Unmap(); f.Family == 0 || f.Family == 4 == a.Is4() {
			list = append(list, a)
		}
	}
	return list, nil
}

// podList is a list of pods of the API, or a part of one.
type podList struct {
	Kind     string
	Metadata struct{ Continue string }
	Items    []Pod
}

// Read reads what `kubectl get pods -o json` prints.
func Read(r io.Reader) ([]Pod, error) {
	list, err := decode(r, maxFile)
	if err != nil {
		return nil, err
	}
	if len(list.Items) > maxPods {
		return nil, fmt.Errorf("found %d pods; expected %d at most", len(list.Items), maxPods)
	}
	return list.Items, nil
}

// decode reads a list of as many octets at most.
func decode(r io.Reader, most int64) (list podList, err error) {
	limited := &io.LimitedReader{R: r, N: most + 1}
	err = json.NewDecoder(limited).Decode(&list)
	switch {
	case limited.N <= 0:
		return podList{}, fmt.Errorf("found a list of pods of more than %d octets", most)
	case err != nil:
		return podList{}, fmt.Errorf("a list of pods: %w", err)
	case list.Kind != "List" && list.Kind != "PodList":
		return podList{}, fmt.Errorf("found the kind %q; expected a list of pods", list.Kind)
	}
	return list, nil
}
