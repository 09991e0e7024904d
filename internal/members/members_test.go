package members

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// pods reads those of a file of testdata.
func pods(t *testing.T, name string) []Pod {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// names returns the pods of members, with their addresses.
func names(list []Member) (names []string) {
	for _, m := range list {
		names = append(names, fmt.Sprintf("%s %s %v", m.Pod, m.Interface, m.Addresses))
	}
	return names
}

func TestMembersAreReadyPodsWithAnAddressInTheNetwork(t *testing.T) {
	all := pods(t, "pods.json")
	list, complaints := Of(all, Filter{})
	want := []string{
		"shirube-0 net1 [192.0.2.10 2001:db8:100::10]", "shirube-1 net1 [192.0.2.11 2001:db8:100::11]", "shirube-1 net2 [198.51.100.11]",
	}
	if got := names(list); !slices.Equal(got, want) {
		t.Errorf("found %q; expected %q", got, want)
	}
	if list[0].Namespace != "dns" || list[0].Node != "worker-0" || list[0].Network != "dns/vlan100" {
		t.Errorf("found %+v", list[0])
	}
	var said []string
	for _, c := range complaints {
		said = append(said, c.Error())
	}
	for i, want := range []string{
		"the pod dns/bad-address is ready, and left out: annotation k8s.v1.cni.cncf.io/network-status: network dns/vlan100: found \"net1\"; expected an IP address",
		"the pod dns/bad-json is ready, and left out: annotation k8s.v1.cni.cncf.io/network-status: ",
		"the pod dns/cluster-only is ready, and left out: it has no address in such a network",
		"the pod dns/no-annotation is ready, and left out: it has no annotation k8s.v1.cni.cncf.io/network-status",
	} {
		if i >= len(said) || !strings.HasPrefix(said[i], want) {
			t.Errorf("complaints are %q; expected %q", said, want)
		}
	}
	if len(said) != 4 {
		t.Errorf("found %d complaints: %q", len(said), said)
	}
}

func TestFilterTakesNetworksInterfacesAndFamilies(t *testing.T) {
	all := pods(t, "pods.json")
	for _, c := range []struct {
		filter Filter
		want   []string
	}{
		{Filter{Network: "vlan100"}, []string{"shirube-0 net1 [192.0.2.10 2001:db8:100::10]", "shirube-1 net1 [192.0.2.11 2001:db8:100::11]"}},
		{Filter{Network: "dns/vlan200"}, []string{"shirube-1 net2 [198.51.100.11]"}},
		{Filter{Network: "other/vlan100"}, nil},
		{Filter{Interface: "net2"}, []string{"shirube-1 net2 [198.51.100.11]"}},
		{Filter{Interface: "net2", Network: "vlan100"}, nil},
		{Filter{Interface: "net1", Family: 6}, []string{"shirube-0 net1 [2001:db8:100::10]", "shirube-1 net1 [2001:db8:100::11]"}},
		{Filter{Interface: "net2", Family: 6}, nil},
		{Filter{Interface: "eth0", Family: 4}, []string{"bad-address eth0 [10.128.0.15]", "cluster-only eth0 [10.128.0.3]", "shirube-0 eth0 [10.128.0.10]", "shirube-1 eth0 [10.128.0.11]"}},
	} {
		list, _ := Of(all, c.filter)
		if got := names(list); !slices.Equal(got, c.want) {
			t.Errorf("%+v: found %q; expected %q", c.filter, got, c.want)
		}
	}
}

func TestWhatAPodSaysOfItselfIsBounded(t *testing.T) {
	one := func(networks int, ips int) Pod {
		var list []network
		for range networks {
			n := network{Name: "dns/vlan100", Interface: "net1"}
			for i := range ips {
				n.IPs = append(n.IPs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String())
			}
			list = append(list, n)
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		p := pods(t, "pods.json")[0]
		p.Metadata.Annotations = map[string]string{networkStatus: string(text)}
		return p
	}
	for _, c := range []struct {
		networks, ips int
		want          string
	}{
		{maxNetworks, 1, ""},
		{maxNetworks + 1, 1, "found 65 networks; expected 64 at most"},
		{1, maxAddresses, ""},
		{1, maxAddresses + 1, "found 65 addresses; expected 64 at most"},
	} {
		list, complaints := Of([]Pod{one(c.networks, c.ips)}, Filter{})
		if c.want == "" && (len(list) != c.networks || complaints != nil) || c.want != "" && (len(complaints) != 1 || !strings.Contains(complaints[0].Error(), c.want)) {
			t.Errorf("of %d networks and %d addresses: found %d members, %v", c.networks, c.ips, len(list), complaints)
		}
	}
}

func TestWhatIsNoListOfPodsIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "a list of pods: EOF",
		"{":                            "a list of pods: unexpected EOF",
		`{"kind": "Pod", "items": []}`: `found the kind "Pod"; expected a list of pods`,
		`{"kind": "List", "items": [` + strings.Repeat(`{},`, maxPods) + `{}]}`: "found 20001 pods; expected 20000 at most",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || err.Error() != want {
			t.Errorf("%.40s: found %v; expected %s", text, err, want)
		}
	}
	endless := strings.NewReader(`{"kind": "List", "more": "` + strings.Repeat("x", 1000))
	if _, err := decode(endless, 100); err == nil || err.Error() != "found a list of pods of more than 100 octets" {
		t.Errorf("found %v", err)
	}
}

func TestFormsSayTheSame(t *testing.T) {
	list, _ := Of(pods(t, "pods.json"), Filter{Interface: "net1"})
	if got := string(AppendPlain(nil, list)); got != "192.0.2.10\n192.0.2.11\n2001:db8:100::10\n2001:db8:100::11\n" {
		t.Errorf("plain is %q", got)
	}
	asJSON, err := AppendJSON(nil, list)
	if err != nil {
		t.Fatal(err)
	}
	var read struct{ Members []Member }
	if err := json.Unmarshal(asJSON, &read); err != nil || !slices.Equal(names(read.Members), names(list)) {
		t.Errorf("%v: JSON is %s", err, asJSON)
	}
	want := `members:
  - pod: "shirube-0"
    namespace: "dns"
    node: "worker-0"
    network: "dns/vlan100"
    interface: "net1"
    addresses:
      - "192.0.2.10"
      - "2001:db8:100::10"
  - pod: "shirube-1"
`
	if got := string(AppendYAML(nil, list)); !strings.HasPrefix(got, want) {
		t.Errorf("YAML is\n%s", got)
	}
	if got := string(AppendYAML(nil, nil)); got != "members: []\n" {
		t.Errorf("no YAML is %q", got)
	}
	if got, err := AppendJSON(nil, nil); err != nil || string(got) != "{\n  \"members\": []\n}\n" {
		t.Errorf("no JSON is %q, %v", got, err)
	}
}

func TestTemplatesMakeWhatAnAPITakes(t *testing.T) {
	list, _ := Of(pods(t, "pods.json"), Filter{Interface: "net1", Family: 4})
	tmpl, err := ParseTemplate("t", `{{range $i, $a := .Addresses}}{{if $i}},{{end}}{{json $a}}{{end}} {{(index .Members 0).Pod}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tmpl.Append(nil, list); err != nil || string(got) != `"192.0.2.10","192.0.2.11" shirube-0` {
		t.Errorf("found %q, %v", got, err)
	}
	if _, err := ParseTemplate("t", "{{.Nope"); err == nil {
		t.Error("a template that does not end is taken")
	}
	if tmpl, err = ParseTemplate("t", "{{.Nope}}"); err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Append(nil, list); err == nil {
		t.Error("a template of what there is not is carried out")
	}
}
