package members

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"text/template"
)

// AppendPlain appends the addresses, each once and in a line of its own.
func AppendPlain(b []byte, list []Member) []byte {
	for _, a := range Addresses(list) {
		b = fmt.Appendln(b, a)
	}
	return b
}

// Addresses returns the addresses of members, each once, IPv4 first.
func Addresses(list []Member) []netip.Addr {
	all := []netip.Addr{} // in JSON, none is []
	seen := map[netip.Addr]bool{}
	for _, six := range []bool{false, true} {
		for i := range list {
			for _, a := range list[i].Addresses {
				if a.Is6() == six && !seen[a] {
					seen[a] = true
					all = append(all, a)
				}
			}
		}
	}
	return all
}

// AppendJSON appends members as a JSON document.
func AppendJSON(b []byte, list []Member) ([]byte, error) {
	if list == nil {
		list = []Member{}
	}
	text, err := json.MarshalIndent(struct {
		Members []Member `json:"members"`
	}{list}, "", "  ")
	return append(append(b, text...), '\n'), err
}

// AppendYAML appends them as YAML. Its strings are JSON's, which YAML's may be.
func AppendYAML(b []byte, list []Member) []byte {
	if len(list) == 0 {
		return append(b, "members: []\n"...)
	}
	b = append(b, "members:\n"...)
	for _, m := range list {
		for i, field := range [][2]string{{"pod", m.Pod}, {"namespace", m.Namespace}, {"node", m.Node}, {"network", m.Network}, {"interface", m.Interface}} {
			lead := "    "
			if i == 0 {
				lead = "  - "
			}
			b = fmt.Appendf(b, "%s%s: %s\n", lead, field[0], quote(field[1]))
		}
		b = append(b, "    addresses:\n"...)
		for _, a := range m.Addresses {
			b = fmt.Appendf(b, "      - %s\n", quote(a.String()))
		}
	}
	return b
}

// quote returns a string as JSON has it.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`) // no string cannot be written
	}
	return b
}

// Template is what becomes of members for somebody else's API: a text/template, whose
// dot has .Members, .Addresses, and of these .IPv4 and .IPv6, with the function json.
type Template struct{ t *template.Template }

// ParseTemplate reads one.
func ParseTemplate(name, text string) (Template, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
	}).Parse(text)
	return Template{t}, err
}

// Append appends what it makes of members.
func (t Template) Append(b []byte, list []Member) ([]byte, error) {
	out := bytes.NewBuffer(b)
	all := Addresses(list)
	six := 0
	for six < len(all) && all[six].Is4() {
		six++
	}
	err := t.t.Execute(out, struct {
		Members               []Member
		Addresses, IPv4, IPv6 []netip.Addr
	}{list, all, all[:six:six], all[six:]})
	return out.Bytes(), err
}
