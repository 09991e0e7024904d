package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"shirube/internal/members"
)

// forms are what `shirube lb-members` prints.
var forms = []string{"plain", "json", "yaml"}

// lbMembersFlags are the flags of `shirube lb-members`.
type lbMembersFlags struct {
	api            members.API
	filter         members.Filter
	file, form     string
	template       string
	write          string
	min            int
	timeout        time.Duration
	stderr, stdout io.Writer
	stdin          io.Reader
}

func newLBMembersCommand() *cobra.Command {
	var f lbMembersFlags
	c := &cobra.Command{
		Use:   "lb-members [flags]",
		Short: "List the addresses of ready pods, for a load balancer outside of the cluster",
		Long: `Ask the API of a Kubernetes cluster for pods, and print those that are ready and not
ending, with the addresses that Multus has given them in other networks than the
cluster's: the members of a pool of F5 or A10. In a pod it goes by its service account,
which has to be allowed to list pods; elsewhere it reads what kubectl prints.

A template (Go's text/template) makes what the load balancer's API takes of .Members
and .Addresses, or of .IPv4 and .IPv6, which are the addresses by family. Where there are fewer members than --min it fails and prints nothing:
an empty pool is worse than an old one.`,
		Example: `  kubectl -n dns get pods -l app.kubernetes.io/name=shirube -o json | shirube lb-members --file -
  shirube lb-members --selector app.kubernetes.io/name=shirube --interface net1 --output json
  shirube lb-members --selector app.kubernetes.io/name=shirube --template pool.tmpl --write pool.json --min 2`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			f.stdin, f.stdout, f.stderr = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
			ctx, stop := signal.NotifyContext(orBackground(c.Context()), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, f.timeout)
			defer cancel()
			return f.run(ctx)
		},
	}
	c.Flags().StringVarP(&f.api.Namespace, "namespace", "n", "", "`name` of the pods' namespace; without, that of the pod this runs in")
	c.Flags().StringVarP(&f.api.Selector, "selector", "l", "", "`labels` that pods have, as kubectl has them")
	c.Flags().StringVar(&f.filter.Network, "network", "", "`name` of the network (NetworkAttachmentDefinition), or namespace/name")
	c.Flags().StringVarP(&f.filter.Interface, "interface", "i", "", "`name` of the interface in the pods, as net1")
	c.Flags().IntVar(&f.filter.Family, "family", 0, "the only `family` of addresses that is wanted, 4 or 6")
	c.Flags().StringVarP(&f.file, "file", "f", "", "`file` with what kubectl get pods -o json prints, in place of the API; -: standard input")
	c.Flags().StringVarP(&f.form, "output", "o", "plain", "`form` of the list: plain (addresses), json or yaml")
	c.Flags().StringVar(&f.template, "template", "", "`file` with a template of what is printed")
	c.Flags().StringVarP(&f.write, "write", "w", "", "`file` to write to, in place of standard output")
	c.Flags().IntVar(&f.min, "min", 1, "`number` of members below which it fails")
	c.Flags().StringVar(&f.api.URL, "api-server", "", "`URL` of the API server; without, that of the cluster this runs in")
	c.Flags().StringVar(&f.api.TokenFile, "token-file", "", "`file` with the token; without, that of the service account")
	c.Flags().StringVar(&f.api.CAFile, "ca-file", "", "`file` with the authority of the API server; without, that of the service account")
	c.Flags().DurationVar(&f.timeout, "timeout", members.Timeout, "how `long` to wait for the API server")
	return c
}

// check returns what is wrong with the flags.
func (f *lbMembersFlags) check() error {
	switch {
	case !slices.Contains(forms, f.form):
		return &usageError{fmt.Errorf("--output: found %q; expected one of %v", f.form, forms)}
	case f.filter.Family != 0 && f.filter.Family != 4 && f.filter.Family != 6:
		return &usageError{fmt.Errorf("--family: found %d; expected 4 or 6", f.filter.Family)}
	case f.min < 0:
		return &usageError{fmt.Errorf("--min: found %d; expected 0 or more", f.min)}
	case f.file != "" && f.api != (members.API{}):
		return &usageError{errors.New("--file is in place of the API: --namespace, --selector, --api-server, --token-file and --ca-file say what to ask that")}
	}
	return nil
}

// run lists the members, and prints them.
func (f *lbMembersFlags) run(ctx context.Context) error {
	pods, err := f.pods(ctx)
	if err != nil {
		return err
	}
	list, complaints := members.Of(pods, f.filter)
	for _, c := range complaints {
		if _, err := fmt.Fprintln(f.stderr, "shirube:", c); err != nil {
			return err
		}
	}
	if len(list) < f.min {
		return fmt.Errorf("found %d members among %d pods; expected %d at least: nothing is printed", len(list), len(pods), f.min)
	}
	out, err := f.format(list)
	if err != nil {
		return err
	}
	if f.write != "" {
		return os.WriteFile(f.write, out, 0o644)
	}
	_, err = f.stdout.Write(out)
	return err
}

// pods reads the pods, from where the flags say.
func (f *lbMembersFlags) pods(ctx context.Context) ([]members.Pod, error) {
	switch f.file {
	case "":
		return f.api.Pods(ctx)
	case "-":
		return members.Read(f.stdin)
	}
	file, err := os.Open(f.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	pods, err := members.Read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.file, err)
	}
	return pods, nil
}

// format returns the list in the form that is wanted.
func (f *lbMembersFlags) format(list []members.Member) ([]byte, error) {
	if f.template != "" {
		text, err := os.ReadFile(f.template)
		if err != nil {
			return nil, err
		}
		t, err := members.ParseTemplate(f.template, string(text))
		if err != nil {
			return nil, err
		}
		return t.Append(nil, list)
	}
	switch f.form {
	case "json":
		return members.AppendJSON(nil, list)
	case "yaml":
		return members.AppendYAML(nil, list), nil
	}
	return members.AppendPlain(nil, list), nil
}
