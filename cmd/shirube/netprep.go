package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"shirube/internal/netprep"
)

// errNotPrepared is of a network that is not as wanted.
var errNotPrepared = errors.New("the network is not as wanted")

// netprepFlags are the flags of `shirube netprep`.
type netprepFlags struct {
	link, reject                 string
	addresses, gateways, cluster []string
	timeout                      time.Duration
	dryRun, check                bool
}

func newNetprepCommand() *cobra.Command {
	var f netprepFlags
	c := &cobra.Command{
		Use:   "netprep [flags]",
		Short: "Prepare the network of a pod that has an interface in a VLAN",
		Long: `Keep what router advertisements bring out of an interface, for good, and have
packets leave by the gateway that is wanted. It is for the init container of a pod
that Multus has given an interface: advertisements would give it addresses, which
packets then leave from, and routes, and would do so again after these were deleted.
A rule of nftables, in the network namespace of the pod, drops them from then on.

It needs user 0 and the capability NET_ADMIN, ends when the interface's addresses are
usable (duplicate address detection), and can be repeated: what is as wanted is left
alone. Without --reject-ra=no, an IPv6 address with a lifetime is taken to have been
advertised, and is deleted.`,
		Example: `  shirube netprep --interface net1 --gateway 192.0.2.1 --gateway 2001:db8:100::1 \
    --cluster-route 10.128.0.0/14 --cluster-route 172.30.0.0/16
  shirube netprep --interface net1 --gateway 192.0.2.1 --dry-run
  shirube netprep --interface net1 --gateway 192.0.2.1 --check`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			if f.check || f.dryRun {
				return f.look(c.OutOrStdout(), o)
			}
			ctx, stop := signal.NotifyContext(orBackground(c.Context()), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return f.prepare(ctx, c.OutOrStdout(), o)
		},
	}
	c.Flags().StringVarP(&f.link, "interface", "i", "", "`name` of the interface in the VLAN, as net1")
	c.Flags().StringVar(&f.reject, "reject-ra", string(netprep.WayAuto), "`how` router advertisements are kept out: nftables; sysctl, which takes a privileged container; auto, which is nftables where the kernel has it; no, they are let in")
	c.Flags().StringArrayVar(&f.addresses, "address", nil, "`address/length` that the interface has besides those it has; may be given again")
	c.Flags().StringArrayVar(&f.gateways, "gateway", nil, "`address` of the router by which all packets leave, in place of other default routes; may be given again, for the other family")
	c.Flags().StringArrayVar(&f.cluster, "cluster-route", nil, "`prefix` of pods, services or nodes that stays where the default route was; may be given again")
	c.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "how `long` to wait for the interface and its addresses")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "print what would be done, and do nothing")
	c.Flags().BoolVar(&f.check, "check", false, "print what is not as wanted, and fail if anything is; without NET_ADMIN the rule itself cannot be seen, and is left out")
	return c
}

// options returns what the flags say.
func (f *netprepFlags) options() (o netprep.Options, err error) {
	if f.link == "" {
		return o, &usageError{errors.New("an interface is needed: --interface NAME")}
	}
	if f.check && f.dryRun {
		return o, &usageError{errors.New("--check and --dry-run are two things: give one")}
	}
	o = netprep.Options{Interface: f.link, RejectRA: netprep.Way(f.reject)}
	if o.Addresses, err = parsed("address", "an address with the length of its network's prefix", f.addresses, netip.ParsePrefix); err != nil {
		return o, err
	}
	if o.Gateways, err = parsed("gateway", "an IP address", f.gateways, netip.ParseAddr); err != nil {
		return o, err
	}
	o.ClusterRoutes, err = parsed("cluster-route", "a prefix", f.cluster, netip.ParsePrefix)
	return o, err
}

// parsed returns the values of a flag.
func parsed[T any](flag, expected string, texts []string, parse func(string) (T, error)) (list []T, err error) {
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--%s: found %q; expected %s", flag, text, expected)}
		}
		list = append(list, v)
	}
	return list, nil
}

// prepare makes the network as wanted, and says what it does.
func (f *netprepFlags) prepare(ctx context.Context, w io.Writer, o netprep.Options) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var written error
	err := netprep.Run(ctx, o, func(s netprep.Step) {
		if _, err := fmt.Fprintln(w, s); err != nil {
			written = err
		}
	})
	return errors.Join(err, written)
}

// look prints what is not as wanted, and changes nothing.
func (f *netprepFlags) look(w io.Writer, o netprep.Options) error {
	steps, err := netprep.Plan(o)
	if err != nil {
		return err
	}
	var out []byte
	wanting := false
	for _, s := range steps {
		if s.Unseen() {
			out = fmt.Appendf(out, "not seen without the capability NET_ADMIN: %s\n", s)
			continue
		}
		wanting = true
		out = fmt.Appendf(out, "%s\n", s)
	}
	if _, err := w.Write(out); err != nil || !wanting || f.dryRun {
		return err
	}
	return errNotPrepared
}
