package shared

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// How the list of servers is followed.
const (
	pollMembers   = 5 * time.Second // between two looks at the file, or at the service
	lookupMembers = 4 * time.Second // for a look at the service
	maxFile       = 64 << 10        // octets of the file
)

// Run follows the file and the service that list the servers, until ctx ends.
// As long as they cannot be read, or list nobody, the servers before stay.
func (c *Cache) Run(ctx context.Context) {
	if c.opt.File == "" && c.opt.Service.Name == "" {
		return
	}
	tick := time.NewTicker(pollMembers)
	defer tick.Stop()
	told := ""
	for {
		switch err := c.follow(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			c.opt.Log.Warn("cannot learn the servers of the shared cache; going on with those before", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// follow takes up the servers as they are listed now.
func (c *Cache) follow(ctx context.Context) error {
	servers := slices.Clone(c.opt.Servers)
	if c.opt.File != "" {
		listed, err := readMembers(c.opt.File)
		if err != nil {
			return err
		}
		servers = append(servers, listed...)
	}
	if c.opt.Service.Name != "" {
		found, err := c.opt.Service.members(ctx)
		if err != nil {
			return err
		}
		servers = append(servers, found...)
	}
	if len(servers) == 0 {
		return errors.New("no server is listed")
	}
	before := c.Members()
	if err := c.SetServers(servers); err != nil {
		return err
	}
	if after := c.Members(); !slices.Equal(before, after) {
		c.opt.Log.Info("the servers of the shared cache have changed", "servers", after)
	}
	return nil
}

// Members returns the servers in use.
func (c *Cache) Members() []Server {
	var out []Server
	for _, s := range *c.servers.Load() {
		out = append(out, s.Server)
	}
	return out
}

// String returns s as a file lists it.
func (s Server) String() string { return s.Name + " " + s.Addr.String() }

// readMembers returns the servers that a file lists.
func readMembers(file string) ([]Server, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s: longer than %d octets", file, maxFile)
	}
	servers, err := parseMembers(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return servers, nil
}

// parseMembers reads servers, each on a line of its own: its name, then its
// address and port. Empty lines and those that begin with # do not count.
func parseMembers(text string) ([]Server, error) {
	var servers []Server
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d: found %d words; expected a name and an address", n, len(fields))
		}
		at, err := netip.ParseAddrPort(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: found %q; expected an IP address and a port", n, fields[1])
		}
		servers = append(servers, Server{Name: fields[0], Addr: at})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return servers, checkServers(servers)
}

// members returns the servers that the service has now, as the first of its
// resolvers says that knows.
func (s Service) members(ctx context.Context) (servers []Server, err error) {
	err = errors.New("no resolver to look for the service")
	for _, at := range s.Resolvers {
		if servers, err = s.membersBy(ctx, at); err == nil {
			return servers, nil
		}
	}
	return nil, err
}

// membersBy returns the servers that the resolver at an address knows of. SRV
// records (RFC 2782) name them: Kubernetes has some for each named port of a
// headless service, whose targets are the pods by their names, if a StatefulSet
// made them. Without such records each address is a server by that name; the keys
// of a pod whose address changes then move.
func (s Service) membersBy(ctx context.Context, at netip.AddrPort) ([]Server, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupMembers)
	defer cancel()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, at.String())
	}}
	name := strings.TrimSuffix(s.Name, ".") + "." // as it is: no search list
	_, targets, err := r.LookupSRV(ctx, "", "", name)
	if err != nil || len(targets) == 0 {
		return addresses(ctx, r, name, s.Port, true)
	}
	var servers []Server
	for _, target := range targets {
		found, err := addresses(ctx, r, target.Target, target.Port, false)
		if err != nil {
			return nil, err
		}
		servers = append(servers, found[0]) // of a pod with several, the first
	}
	return slices.CompactFunc(sorted(servers), func(a, b Server) bool { return a.Name == b.Name }), nil
}

// addresses returns the servers at the addresses of name: each by its address
// if they are many servers, else by that name.
func addresses(ctx context.Context, r *net.Resolver, name string, port uint16, many bool) ([]Server, error) {
	found, err := r.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", name, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("looking for %s: no address", name)
	}
	var servers []Server
	for _, a := range found {
		at := netip.AddrPortFrom(a.Unmap(), port)
		server := Server{Name: strings.TrimSuffix(name, "."), Addr: at}
		if many {
			server.Name = at.String()
		}
		servers = append(servers, server)
	}
	return slices.Compact(sorted(servers)), nil
}

// sorted sorts servers by name, then by address.
func sorted(servers []Server) []Server {
	slices.SortFunc(servers, func(a, b Server) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Addr.Compare(b.Addr)
	})
	return servers
}
