package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Hints returns the root hints as a zone file (RFC 9609 §2.1).
func (w *World) Hints() string {
	var b strings.Builder
	for _, h := range w.zones[0].servers {
		fmt.Fprintf(&b, ". 3600000 NS %s\n", h.name)
		for _, a := range h.addrs {
			typ := "A"
			if a.Is6() {
				typ = "AAAA"
			}
			fmt.Fprintf(&b, "%s 3600000 %s %s\n", h.name, typ, a)
		}
	}
	return b.String()
}

// IndexFile is the name of the file that [World.WriteZones] lists zones in.
const IndexFile = "index.tsv"

// WriteZones writes the zones to dir, for other servers to serve: a zone file
// for each (RFC 1035 §5.1), and [IndexFile] with a line for each, of the zone,
// its file and the addresses that serve it, the former between tabs and the
// latter between commas. At 127.53.3.1 a server should refuse everything, at
// 127.53.3.2 nothing should answer. The records of a signed world are written
// without their signatures, which are made when somebody asks.
func (w *World) WriteZones(dir string) error {
	var index strings.Builder
	for _, z := range w.zones {
		file := strings.TrimSuffix(z.origin, ".") + ".zone"
		if z.origin == "." {
			file = "root.zone"
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(z.text.String()), 0o644); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		fmt.Fprintf(&index, "%s\t%s\t%s\n", z.origin, file, z.addrList())
	}
	if err := os.WriteFile(filepath.Join(dir, IndexFile), []byte(index.String()), 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// addrList returns the addresses that answer for z, between commas.
func (z *zone) addrList() string {
	var list []string
	for _, a := range z.addrs() {
		list = append(list, a.String())
	}
	return strings.Join(list, ",")
}
