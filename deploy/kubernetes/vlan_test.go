package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"shirube/internal/members"
)

// vlanOverlays are those whose pods have an interface in a VLAN.
var vlanOverlays = []string{"overlays/openshift-multus", "overlays/f5-a10"}

// texts returns a list of strings.
func texts(v any) (list []string) {
	all, _ := v.([]any)
	for _, s := range all {
		list = append(list, fmt.Sprint(s))
	}
	return list
}

// values returns what a flag is given in arguments.
func values(args []string, flag string) (list []string) {
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, "--"+flag+"="); ok {
			list = append(list, v)
		}
	}
	return list
}

// prefixes returns those of a list with commas.
func prefixes(t *testing.T, text string) (list []netip.Prefix) {
	t.Helper()
	for word := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// network is the configuration in a NetworkAttachmentDefinition.
type network struct {
	Name, Type, Topology, NetAttachDefName, Subnets, ExcludeSubnets string
	VLANID                                                          int
}

// netprep returns the init container that prepares the network, with its arguments.
func netprep(t *testing.T, list []object) (container object, args []string) {
	t.Helper()
	container, _ = at(find(t, list, "Deployment", "shirube"), "spec", "template", "spec", "initContainers", 0).(object)
	args = texts(container["args"])
	if len(args) == 0 || args[0] != "netprep" {
		t.Fatalf("the init container does %q", args)
	}
	return container, args
}

func TestPodsOfAVLANAreInItAndLeaveByItsRouters(t *testing.T) {
	for _, dir := range vlanOverlays {
		list := build(t, dir)
		definition := find(t, list, "NetworkAttachmentDefinition", "vlan100")
		var n network
		if err := json.Unmarshal([]byte(fmt.Sprint(at(definition, "spec", "config"))), &n); err != nil {
			t.Fatal(err)
		}
		if n.Name != "vlan100" || n.NetAttachDefName != "dns/vlan100" || at(definition, "metadata", "namespace") != "dns" || n.Topology != "localnet" || n.VLANID != 100 {
			t.Errorf("%s: the network is %+v", dir, n)
		}
		var wanted []struct{ Name, Namespace, Interface string }
		annotation := at(find(t, list, "Deployment", "shirube"), "spec", "template", "metadata", "annotations", "k8s.v1.cni.cncf.io/networks")
		if err := json.Unmarshal([]byte(fmt.Sprint(annotation)), &wanted); err != nil {
			t.Fatal(err)
		}
		_, args := netprep(t, list)
		if len(wanted) != 1 || wanted[0].Namespace+"/"+wanted[0].Name != n.NetAttachDefName || !slices.Equal(values(args, "interface"), []string{wanted[0].Interface}) {
			t.Errorf("%s: pods are in %v, and prepared is %v", dir, wanted, values(args, "interface"))
		}
		excluded := prefixes(t, n.ExcludeSubnets)
		for _, p := range excluded {
			// OVN-Kubernetes counts them out: a /65 had pods time out, a /121 had not.
			if p.Addr().Is6() && p.Bits() < 112 {
				t.Errorf("%s: the excluded network %s is too large", dir, p)
			}
		}
		gateways := values(args, "gateway")
		for _, text := range gateways {
			in := func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(text)) }
			if !slices.ContainsFunc(prefixes(t, n.Subnets), in) || !slices.ContainsFunc(excluded, in) {
				t.Errorf("%s: the router %s is in no network of %s, or its address is given to a pod", dir, text, n.Name)
			}
		}
		if len(gateways) != 2 {
			t.Errorf("%s: the routers are %q", dir, gateways)
		}
	}
}

// TestNetprepTakesItsArguments runs the command with what the init container says.
func TestNetprepTakesItsArguments(t *testing.T) {
	shirube, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range vlanOverlays {
		_, args := netprep(t, build(t, dir))
		for i := range args { // a machine may have its own net1
			args[i] = strings.Replace(args[i], "--interface=net1", "--interface=nosuch0", 1)
		}
		out, err := exec.Command(shirube, append(args, "--check")...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "interface nosuch0: there is no such interface") {
			t.Errorf("%s: %q: %v\n%s", dir, args, err, out)
		}
	}
}

func TestOnlyTheInitContainerMayChangeTheNetwork(t *testing.T) {
	for _, dir := range vlanOverlays {
		list := build(t, dir)
		init, _ := netprep(t, list)
		may := func(c any) []string { return texts(at(c, "securityContext", "capabilities", "add")) }
		server := at(find(t, list, "Deployment", "shirube"), "spec", "template", "spec", "containers", 0)
		if got := may(init); !slices.Equal(got, []string{"NET_ADMIN", "NET_BIND_SERVICE"}) || at(init, "securityContext", "runAsUser") != 0.0 {
			t.Errorf("%s: the init container may %q", dir, got)
		}
		if got := may(server); !slices.Equal(got, []string{"NET_BIND_SERVICE"}) || at(server, "securityContext", "runAsUser") != nil {
			t.Errorf("%s: the server may %q", dir, got)
		}
		if at(init, "image") != at(server, "image") {
			t.Errorf("%s: the images are %v and %v", dir, at(init, "image"), at(server, "image"))
		}
		scc := find(t, list, "SecurityContextConstraints", "shirube-vlan")
		if got := texts(scc["allowedCapabilities"]); !slices.Equal(got, may(init)) {
			t.Errorf("%s: the constraints let them %q", dir, got)
		}
		for key, value := range scc {
			if strings.HasPrefix(key, "allow") && value == true {
				t.Errorf("%s: the constraints say %s", dir, key)
			}
		}
		role, binding := find(t, list, "Role", "shirube-vlan-scc"), find(t, list, "RoleBinding", "shirube-vlan-scc")
		if at(role, "rules", 0, "resourceNames", 0) != "shirube-vlan" || at(role, "rules", 0, "verbs", 0) != "use" || at(binding, "roleRef", "name") != "shirube-vlan-scc" ||
			at(binding, "subjects", 0, "name") != "shirube" {
			t.Errorf("%s: the constraints are used by %v", dir, at(binding, "subjects"))
		}
		if at(find(t, list, "Namespace", "dns"), "metadata", "labels", "pod-security.kubernetes.io/enforce") != "privileged" {
			t.Errorf("%s: the namespace refuses the init container", dir)
		}
	}
}

func TestWhoListsMembersSeesPodsOnly(t *testing.T) {
	list := build(t, "overlays/f5-a10")
	if rules, want := at(find(t, list, "Role", "lb-members"), "rules"), "[map[apiGroups:[] resources:[pods] verbs:[list]]]"; fmt.Sprint(rules) != want {
		t.Errorf("it may %v; expected %s", rules, want)
	}
	pod := at(find(t, list, "CronJob", "lb-members"), "spec", "jobTemplate", "spec", "template", "spec")
	if at(pod, "serviceAccountName") != "lb-members" || at(pod, "automountServiceAccountToken") != false {
		t.Errorf("it is %v", at(pod, "serviceAccountName"))
	}
	mounts := func(c any) (list []string) {
		all, _ := at(c, "volumeMounts").([]any)
		for _, m := range all {
			list = append(list, fmt.Sprint(at(m, "name")))
		}
		return list
	}
	if got := mounts(at(pod, "initContainers", 0)); !slices.Contains(got, "account") || slices.Contains(got, "credentials") {
		t.Errorf("who asks the API has %q", got)
	}
	if got := mounts(at(pod, "containers", 0)); slices.Contains(got, "account") || !slices.Contains(got, "credentials") {
		t.Errorf("who tells the load balancer has %q", got)
	}
	args := texts(at(pod, "initContainers", 0, "args"))
	selector := at(find(t, list, "Deployment", "shirube"), "spec", "selector", "matchLabels", "app.kubernetes.io/name")
	if args[0] != "lb-members" || !slices.Equal(values(args, "selector"), []string{fmt.Sprintf("app.kubernetes.io/name=%v", selector)}) || !slices.Equal(values(args, "network"), []string{"vlan100"}) {
		t.Errorf("it looks for %q", args)
	}
	written := values(args, "write")
	if told := texts(at(pod, "containers", 0, "args")); len(written) != 1 || !slices.Contains(told, "@"+written[0]) {
		t.Errorf("written is %q, and told is %q", written, told)
	}
	templates, _ := at(find(t, list, "ConfigMap", "lb-members"), "data").(object)
	for _, file := range values(args, "template") {
		if templates[strings.TrimPrefix(file, "/etc/lb-members/")] == nil {
			t.Errorf("there is no template %s", file)
		}
	}
}

// somePods returns members for load balancers to be told of.
func somePods(t *testing.T) []members.Member {
	t.Helper()
	file, err := os.Open("../../internal/members/testdata/pods.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pods, err := members.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	some, _ := members.Of(pods, members.Filter{Network: "vlan100"})
	return some
}

// TestTemplatesMakeJSONOfMembers makes of some pods what load balancers are told.
func TestTemplatesMakeJSONOfMembers(t *testing.T) {
	some := somePods(t)
	templates, _ := at(find(t, build(t, "overlays/f5-a10"), "ConfigMap", "lb-members"), "data").(object)
	if len(templates) != 4 {
		t.Errorf("found the templates %v", templates)
	}
	four, six := "[192.0.2.10 192.0.2.11]", "[2001:db8:100::10 2001:db8:100::11]"
	for _, c := range []struct {
		template string
		path     []any
		want     string
	}{
		{"as3.tmpl", []any{"declaration", "dns", "resolver", "pool4", "members", 0, "serverAddresses"}, four},
		{"as3.tmpl", []any{"declaration", "dns", "resolver", "pool6", "members", 0, "serverAddresses"}, six},
		{"as3.tmpl", []any{"declaration", "dns", "resolver", "udp6", "pool"}, "pool6"},
		{"a10-servers.tmpl", []any{"server-list", 0, "host"}, "192.0.2.10"},
		{"a10-servers.tmpl", []any{"server-list", 3, "server-ipv6-addr"}, "2001:db8:100::11"},
		{"a10-udp.tmpl", []any{"service-group", "member-list", 3, "name"}, "shirube-2001:db8:100::11"},
		{"a10-tcp.tmpl", []any{"service-group", "protocol"}, "tcp"},
	} {
		for _, list := range [][]members.Member{some, nil} {
			tmpl, err := members.ParseTemplate(c.template, fmt.Sprint(templates[c.template]))
			if err != nil {
				t.Fatal(err)
			}
			text, err := tmpl.Append(nil, list)
			var made object
			if err := json.Unmarshal(text, &made); err != nil {
				t.Fatalf("%s: %v\n%s", c.template, err, text)
			}
			if got := fmt.Sprint(at(made, c.path...)); err != nil || list != nil && got != c.want {
				t.Errorf("%s: %v: at %v is %s; expected %s", c.template, err, c.path, got, c.want)
			}
		}
	}
}
