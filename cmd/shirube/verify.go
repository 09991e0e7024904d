package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/verify"
	"shirube/internal/wire"
)

// errVerify is the error of a run that found something wrong.
var errVerify = errors.New("not all checks passed")

// lookupTime is how long the addresses of a name are waited for.
const lookupTime = 10 * time.Second

// verifyFlags are the flags of `shirube verify`.
type verifyFlags struct {
	profile   string
	instances []string
	version   string
	junit     string
	json      bool
	list      bool
}

func newVerifyCommand() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify [flags] TARGET...",
		Short: "Check a running resolver from outside, as the gate of a roll-out",
		Long: `Ask resolvers what their clients would, over every transport, and judge the
answers: more than fifty checks, from UDP over DNSSEC and DDR to the latency, and among
the instances of a fleet. A TARGET is an address, or a name that has some. The
profile says what to ask and what to expect; without one, names of the Internet are
asked.

The exit code is 0 if everything passed, 1 if not, and 2 if the profile or the command
line is wrong. It ends within the profile's
timeout, whatever the servers do.`,
		Example: `  shirube verify 192.0.2.53 2001:db8::53
  shirube verify --profile stage.yaml --expect-version v1.2.3 --junit report.xml 192.0.2.53
  shirube verify --list`,
		Args: func(_ *cobra.Command, args []string) error {
			if f.list != (len(args) == 0) {
				return &usageError{errors.New("verify takes targets, or --list; see 'shirube verify --help'")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(orBackground(c.Context()), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return f.run(ctx, args, c.InOrStdin(), c.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&f.profile, "profile", "p", "", "what to ask and expect, a YAML `file`; -: standard input")
	c.Flags().StringArrayVar(&f.instances, "instance", nil, "`address` or name of servers behind the targets; may be given again")
	c.Flags().StringVar(&f.version, "expect-version", "", "the `version` that the servers have to say they are")
	c.Flags().StringVar(&f.junit, "junit", "", "write the report as JUnit's XML to `file`, too")
	c.Flags().BoolVar(&f.json, "json", false, "print the report as JSON")
	c.Flags().BoolVar(&f.list, "list", false, "check the profile, and list the checks")
	return c
}

// run does what the flags say.
func (f *verifyFlags) run(ctx context.Context, targets []string, stdin io.Reader, stdout io.Writer) error {
	p, err := f.readProfile(stdin)
	if err != nil {
		return err
	}
	if f.version != "" {
		p.Expect.Version = f.version
	}
	o, err := verifyOptions(&p)
	if err != nil {
		return err
	}
	if f.list {
		return listChecks(stdout, &o)
	}
	if o.Targets, err = addresses(ctx, targets); err != nil {
		return err
	}
	if o.Instances, err = addresses(ctx, slices.Concat(p.Instances, f.instances)); err != nil {
		return err
	}
	report, err := verify.Run(ctx, o)
	if err != nil {
		return &usageError{err}
	}
	if err := f.write(stdout, report); err != nil {
		return err
	}
	if !report.OK() {
		return errVerify
	}
	return nil
}

// readProfile returns the profile, or the default one.
func (f *verifyFlags) readProfile(stdin io.Reader) (config.Profile, error) {
	switch f.profile {
	case "":
		return config.DefaultProfile(), nil
	case "-":
		return config.ReadProfile("stdin", stdin)
	}
	return config.LoadProfile(f.profile)
}

// write writes the report in the forms that are wanted.
func (f *verifyFlags) write(stdout io.Writer, report *verify.Report) error {
	if f.junit != "" {
		var xml bytes.Buffer
		if err := report.WriteJUnit(&xml); err != nil {
			return err
		}
		if err := os.WriteFile(f.junit, xml.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if f.json {
		return report.WriteJSON(stdout)
	}
	return report.WriteText(stdout)
}

// listChecks prints the checks there are, after those that the profile names were
// looked up.
func listChecks(stdout io.Writer, o *verify.Options) error {
	o.Targets = []netip.Addr{netip.IPv6Loopback()}
	if err := o.Validate(); err != nil {
		return &usageError{err}
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, c := range verify.Checks() {
		if _, err := fmt.Fprintf(t, "%s\t%s\n", c.Name, c.Shows); err != nil {
			return err
		}
	}
	return t.Flush()
}

// checkTarget refuses what is neither an address nor a name, before it is asked for.
func checkTarget(text string) error {
	if _, err := netip.ParseAddrPort(text); err == nil {
		return &usageError{fmt.Errorf("%q: expected an address without a port: the ports are those of the profile (ports.dns, ports.tls, ports.https)", text)}
	}
	if _, err := wire.ParseName(text); err != nil || strings.ContainsAny(text, ":/[] ") {
		return &usageError{fmt.Errorf("%q: expected an address, or a name that has some", text)}
	}
	return nil
}

// addresses returns those that a list of addresses and names has, each once.
func addresses(ctx context.Context, list []string) (found []netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	for _, text := range list {
		some := []netip.Addr{}
		if a, err := netip.ParseAddr(text); err == nil {
			some = append(some, a)
		} else if err := checkTarget(text); err != nil {
			return nil, err
		} else if some, err = net.DefaultResolver.LookupNetIP(ctx, "ip", text); err != nil {
			return nil, err
		}
		for _, a := range some {
			if a = a.Unmap(); !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
	}
	return found, nil
}

// verifyOptions returns what p says, but for the servers.
func verifyOptions(p *config.Profile) (verify.Options, error) {
	q := &p.Questions
	o := verify.Options{
		Ports: verify.Ports(p.Ports), DoHPath: p.DoHPath, ServerName: p.ServerName,
		Questions: verify.Questions{
			Good: toAsk(q.Good), Bogus: toAsk(q.Bogus), Unsigned: toAsk(q.Unsigned), Denied: toAsk(q.Denied),
			Empty: toAsk(q.Empty), Big: toAsk(q.Big), Fresh: toAsk(q.Fresh), Health: toAsk(q.Health),
		},
		Expect: verify.Expect{
			Version: p.Expect.Version, NSID: p.Expect.NSID, ID: p.Expect.ID, RESINFO: p.Expect.RESINFO, HB46PP: p.Expect.HB46PP, EDE: p.Expect.ExtendedErrors,
			Padding: p.Expect.PaddingBlock, Life: p.Expect.CertificateLifetime, UDPSize: p.Expect.UDPSize,
		},
		Latency: verify.Latency(p.Latency), Flush: p.FlushCommand, Dnstap: verify.Dnstap(p.Dnstap),
		Required: p.Checks.Required, Optional: p.Checks.Optional, Skip: p.Checks.Skip,
		QuestionTimeout: p.QuestionTimeout, Timeout: p.Timeout,
	}
	for _, t := range p.Expect.Transports {
		o.Expect.Transports = append(o.Expect.Transports, string(t))
	}
	for _, a := range p.Expect.DDR {
		o.Expect.DDR = append(o.Expect.DDR, string(a))
	}
	if p.CAFile == "" {
		return o, nil
	}
	text, err := os.ReadFile(p.CAFile)
	if err != nil {
		return o, fmt.Errorf("ca_file: %w", err)
	}
	o.Roots = x509.NewCertPool()
	if !o.Roots.AppendCertsFromPEM(text) {
		return o, fmt.Errorf("ca_file: %s has no certificate", p.CAFile)
	}
	return o, nil
}

// toAsk returns a question of a profile.
func toAsk(q config.ProfileQuestion) verify.Question {
	if q.Name == "" {
		return verify.Question{}
	}
	return verify.Question{Name: q.Name, Type: dns.StringToType[q.Type]}
}
