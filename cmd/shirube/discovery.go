package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shirube/discovery"
	"shirube/internal/config"
	"shirube/internal/daemon"
	"shirube/internal/wire"
)

// errNotAdvertised is in the chain of an error about transports that clients do not
// find.
var errNotAdvertised = errors.New("not all encrypted transports can be found")

func newDiscoveryCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "discovery",
		Short: "Print how clients find the encrypted transports",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDDRCommand(), newDNRCommand())
	return c
}

func newDDRCommand() *cobra.Command {
	var file string
	var asked []string
	c := &cobra.Command{
		Use:   "ddr",
		Short: "Print what _dns.resolver.arpa is answered with (RFC 9462)",
		Long: `Print what a server with this configuration, and the certificates in its files,
answers to clients that ask for _dns.resolver.arpa, and which transports it
leaves out, and why. The exit code is 1 if it leaves out any. Without --address
the addresses are discovery.addresses, or those of the listeners.`,
		Example: `  shirube discovery ddr --config /etc/shirube/shirube.yaml
  shirube discovery ddr --config shirube.yaml --address 192.0.2.53`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ddr, err := reachable(file)
			if err != nil {
				return err
			}
			addresses, err := addressesToAsk(&ddr, asked)
			if err != nil {
				return err
			}
			return printDDR(c.OutOrStdout(), &ddr, addresses)
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration `file` (YAML)")
	c.Flags().StringSliceVar(&asked, "address", nil, "`address` that clients ask at; may be given again")
	return c
}

// reachable returns how clients find the server that the file describes.
func reachable(file string) (discovery.DDR, error) {
	if file == "" {
		return discovery.DDR{}, &usageError{errors.New("a configuration is needed: --config FILE")}
	}
	cfg, err := config.Load(file)
	if err != nil {
		return discovery.DDR{}, err
	}
	return daemon.Reachable(&cfg)
}

// addressesToAsk returns those that are given, or those that clients ask at.
func addressesToAsk(ddr *discovery.DDR, given []string) (list []netip.Addr, err error) {
	for _, text := range given {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--address: found %q; expected an IP address", text)}
		}
		list = append(list, a)
	}
	if list == nil {
		list = ddr.Addresses
	}
	if list == nil {
		list = ddr.Bound(func(p wire.Proto) bool { return !p.Encrypted() })
	}
	if list == nil {
		return nil, &usageError{errors.New("the configuration has no address that clients ask at: give one with --address")}
	}
	return list, nil
}

// printDDR prints the answer at each address.
func printDDR(w io.Writer, ddr *discovery.DDR, addresses []netip.Addr) error {
	var out []byte
	complete := true
	for _, a := range addresses {
		out = fmt.Appendf(out, "; asked at %v\n", a)
		found := ddr.Assess(a, false, time.Now())
		for i := range found.Offers {
			out = fmt.Appendf(out, "_dns.resolver.arpa. %d IN SVCB %s\n", discovery.TTL, &found.Offers[i])
		}
		for _, m := range found.Omissions {
			complete = false
			out = fmt.Appendf(out, "; not %v: %s (%v)\n", m.Proto, m.Detail, m.Reason)
		}
	}
	if _, err := w.Write(out); err != nil || complete {
		return err
	}
	return errNotAdvertised
}

func newDNRCommand() *cobra.Command {
	var file string
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "dnr",
		Short: "Print the options for DHCP and router advertisements (RFC 9463)",
		Long: `Print the options by which DHCPv4, DHCPv6 and router advertisements name a server
with this configuration, and the certificates in its files: in hexadecimal
digits, and as Kea and dnsmasq have them. What the certificate does not prove the
name of is left out, and the exit code is 1.`,
		Example: `  shirube discovery dnr --config /etc/shirube/shirube.yaml`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ddr, err := reachable(file)
			if err != nil {
				return err
			}
			return printDNR(c.OutOrStdout(), &ddr, lifetime)
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration `file` (YAML)")
	c.Flags().DurationVar(&lifetime, "lifetime", time.Hour, "how `long` hosts believe a router advertisement")
	return c
}

// printDNR prints the options.
func printDNR(w io.Writer, ddr *discovery.DDR, lifetime time.Duration) error {
	list, omitted, err := ddr.Instances(time.Now())
	if err != nil {
		return err
	}
	var out []byte
	for i := range list {
		out = fmt.Appendf(out, "# %s\n", &list[i])
	}
	for _, m := range omitted {
		out = fmt.Appendf(out, "# not %v: %s (%v)\n", m.Proto, m.Detail, m.Reason)
	}
	v4, err := discovery.DHCPv4(list)
	if err != nil {
		return err
	}
	if len(v4) > 0 {
		out = fmt.Appendf(out, "\n# DHCPv4, option %d: data, for Kea, for dnsmasq\n%x\n", discovery.OptionDHCPv4, v4)
		out = fmt.Appendf(out, "{\"space\": \"dhcp4\", \"code\": %d, \"csv-format\": false, \"data\": \"%x\"}\n", discovery.OptionDHCPv4, v4)
		out = fmt.Appendf(out, "dhcp-option=%d,%s\n", discovery.OptionDHCPv4, colons(v4))
	}
	for i := range list {
		data := list[i].DHCPv6()
		if data == nil {
			continue
		}
		out = fmt.Appendf(out, "\n# DHCPv6, option %d: data, for Kea, for dnsmasq\n%x\n", discovery.OptionDHCPv6, data)
		out = fmt.Appendf(out, "{\"space\": \"dhcp6\", \"code\": %d, \"csv-format\": false, \"data\": \"%x\"}\n", discovery.OptionDHCPv6, data)
		out = fmt.Appendf(out, "dhcp-option=option6:%d,%s\n", discovery.OptionDHCPv6, colons(data))
		option, err := list[i].RA(lifetime)
		if err != nil {
			return err
		}
		out = fmt.Appendf(out, "\n# router advertisement, option %d, whole\n%x\n", discovery.OptionRA, option)
	}
	if _, err := w.Write(out); err != nil || len(omitted) == 0 {
		return err
	}
	return errNotAdvertised
}

// colons writes octets as dnsmasq has them.
func colons(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":") }
