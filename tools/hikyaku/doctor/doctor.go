package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/policy"
	"hikyaku/node/mx"
	"hikyaku/reputation/doctor"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/config"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	selectors, sources  []string
	returnPath, message string
	resolver, config    string
	offline             bool
}

func newDoctorCmd(c *cli.Call) *cobra.Command {
	f := &doctorFlags{}
	cmd := &cobra.Command{
		Use:   "doctor DOMAIN",
		Short: "Look at a sending domain as receivers do: SPF, DKIM, DMARC, names, bulk-sender rules",
		Long: `Check what receivers look up about mail from DOMAIN (the domain in From) and hold
it against the bulk-sender rules of Gmail, Yahoo and Microsoft. What is missing is
printed as records to publish.

Keys, sources and the return path come from the policy of the cluster at --api.
Where there is none, or to look ahead, give them: --selector, --source,
--return-path. --message takes a message as it arrived somewhere and checks its
one-click headers.

DNS is asked as nodes do: --resolver, else delivery.resolver of --config, else
/etc/resolv.conf. The exit code is 1 when something fails.`,
		Example: `  hikyaku doctor example.com
  hikyaku doctor example.com --offline --source 203.0.113.7=out1.example.com --selector s1
  hikyaku doctor example.com --message newsletter.eml`,
		GroupID: cli.GroupTools,
		Args:    cli.WantArgs(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return examine(cmd.Context(), c, args[0], f) },
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.selectors, "selector", nil, "`selector` of a DKIM key; may be repeated")
	fl.StringSliceVar(&f.sources, "source", nil, "`address[=ehlo-name]` that mail leaves from; may be repeated")
	fl.StringVar(&f.returnPath, "return-path", "", "`domain` of the envelope sender (default: the tenant's return_path, else DOMAIN)")
	fl.StringVar(&f.message, "message", "", "`file` with a message, \"-\" for standard input")
	fl.StringVar(&f.resolver, "resolver", "", "DNS server, `address[:port]`")
	fl.StringVar(&f.config, "config", "", "hikyaku.yaml, for its delivery.resolver")
	fl.BoolVar(&f.offline, "offline", false, "do not ask the admin API")
	return cmd
}

func examine(ctx context.Context, c *cli.Call, domain string, f *doctorFlags) error {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if err := policy.CheckDomain(domain); err != nil {
		return cli.UsageError("%.80q is no domain: %v", domain, err)
	}
	s := doctor.Subject{Domain: domain}
	if !f.offline {
		if err := subjectFromPolicy(ctx, c, &s); err != nil {
			fmt.Fprintf(c.Err, "policy is not known (%s); give --selector and --source, or --offline\n", human.Clean(err.Error()))
		}
	}
	if err := f.complete(c, &s); err != nil {
		return err
	}
	r, err := f.open()
	if err != nil {
		return err
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	report := doctor.Examine(ctx, dnsLookup{r}, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.Print(report, func(w io.Writer) error { return showHealth(c, w, report) }); err != nil {
		return err
	}
	if report.Failed {
		return &cli.ExitError{Code: 1}
	}
	return nil
}

// complete adds what the flags say.
func (f *doctorFlags) complete(c *cli.Call, s *doctor.Subject) error {
	for _, sel := range f.selectors {
		if err := policy.CheckDomain(sel); err != nil {
			return cli.UsageError("--selector %.80q: %v", sel, err)
		}
		known := slices.ContainsFunc(s.Keys, func(k doctor.Key) bool { return k.Domain == s.Domain && k.Selector == sel })
		if !known {
			s.Keys = append(s.Keys, doctor.Key{Domain: s.Domain, Selector: sel})
		}
	}
	for _, text := range f.sources {
		address, name, _ := strings.Cut(text, "=")
		a, err := netip.ParseAddr(address)
		if err != nil || a.Zone() != "" {
			return cli.UsageError("--source %.80q: want an address, or one with its name as in 203.0.113.7=out1.example.com", text)
		}
		s.Sources = append(s.Sources, doctor.Source{Name: address, Addr: a, EHLO: strings.ToLower(name)})
	}
	if f.returnPath != "" {
		s.ReturnPath = strings.ToLower(strings.TrimSuffix(f.returnPath, "."))
		if err := policy.CheckDomain(s.ReturnPath); err != nil {
			return cli.UsageError("--return-path %.80q is no domain: %v", f.returnPath, err)
		}
	}
	if f.message == "" {
		return nil
	}
	text, err := readMessage(c, f.message)
	if err != nil {
		return err
	}
	if s.Message, err = doctor.ParseMessage(text); err != nil {
		return cli.UsageError("--message %s: %v", f.message, err)
	}
	return nil
}

// maxMessage is what is read of a message: its header is what counts.
const maxMessage = 1 << 20

func readMessage(c *cli.Call, path string) ([]byte, error) {
	in := c.In
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, cli.UsageError("--message: %v", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxMessage))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	return text, nil
}

// open makes the resolver that nodes have.
func (f *doctorFlags) open() (*mx.Resolver, error) {
	var servers []string
	switch {
	case f.resolver != "":
		servers = []string{f.resolver}
	case f.config != "":
		cfg, err := config.Load(f.config)
		if err != nil {
			return nil, err
		}
		if a := cfg.Resolver(); a.IsValid() {
			servers = []string{a.String()}
		}
	}
	r, err := mx.New(mx.Config{Servers: servers})
	if err != nil && f.resolver != "" {
		return nil, cli.UsageError("--resolver: %v", err)
	}
	return r, err
}

// dnsLookup is the node's resolver as doctor asks.
type dnsLookup struct{ *mx.Resolver }

func (l dnsLookup) MX(ctx context.Context, name string) ([]doctor.MX, error) {
	found, err := l.Resolver.MX(ctx, name)
	out := make([]doctor.MX, len(found))
	for i, m := range found {
		out[i] = doctor.MX(m)
	}
	return out, err
}

// subjectFromPolicy takes keys, sources and return path from the cluster.
func subjectFromPolicy(ctx context.Context, c *cli.Call, s *doctor.Subject) error {
	p, err := c.Policy()
	if err != nil {
		return err
	}
	l, err := p.List(ctx, "")
	if err != nil {
		return err
	}
	var tenants []*policy.Tenant
	for _, r := range l.Resources {
		switch spec := r.Spec.(type) {
		case *policy.Source:
			if !spec.Disabled {
				a, _ := netip.ParseAddr(spec.Address) // none: the zero address says so
				s.Sources = append(s.Sources, doctor.Source{Name: r.Name, Addr: a, EHLO: spec.EHLO})
			}
		case *policy.Carrier:
			if spec.TLS == policy.TLSNone && !spec.Disabled {
				s.PlainCarriers = append(s.PlainCarriers, r.Name)
			}
		case *policy.Tenant:
			tenants = append(tenants, spec)
		}
	}
	slices.Sort(s.PlainCarriers)
	s.ReturnPath = returnPathOf(s.Domain, tenants)
	keys, err := signingKeys(ctx, c)
	if err != nil {
		return err
	}
	s.Keys = keysFor(s.Domain, keys)
	s.PolicyKnown = true
	return nil
}

// returnPathOf is the return path of the tenant that names the domain among
// those it sends as; "" where none does.
func returnPathOf(domain string, tenants []*policy.Tenant) string {
	for _, t := range tenants {
		if t.ReturnPath != "" && len(t.SenderDomains) > 0 && t.SenderAllowed(domain) {
			return t.ReturnPath
		}
	}
	for _, t := range tenants {
		if t.ReturnPath != "" && len(t.SenderDomains) == 0 && len(tenants) == 1 {
			return t.ReturnPath
		}
	}
	return ""
}

// signingKeys asks which keys sign. Their private parts are never shown, so
// policy alone does not tell.
func signingKeys(ctx context.Context, c *cli.Call) ([]doctor.Key, error) {
	m, err := mailbox.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	var out []doctor.Key
	add := func(name, domain, selector, text string) error {
		r, err := doctor.ParseKeyRecord(text)
		if err != nil {
			return fmt.Errorf("signing key %s: %w", name, err)
		}
		out = append(out, doctor.Key{Domain: domain, Selector: selector, Public: r.Key})
		return nil
	}
	if m.Cluster == nil {
		ks, err := m.Node.SigningKeys(ctx)
		for _, k := range ks {
			err = errors.Join(err, add(k.Name, k.Domain, k.Selector, k.DNSText))
		}
		return out, err
	}
	ks, err := m.Cluster.SigningKeys(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, k := range ks.Items {
		err = errors.Join(err, add(k.Name, k.Domain, k.Selector, k.DNSText))
	}
	if err == nil && ks.Answered == 0 {
		err = errors.New("no node has answered which keys sign")
	}
	return out, err
}

// keysFor are the keys of the domain, else of the nearest one above it that has
// some, which is what signs.
func keysFor(domain string, keys []doctor.Key) []doctor.Key {
	for name := domain; name != ""; _, name, _ = strings.Cut(name, ".") {
		var out []doctor.Key
		for _, k := range keys {
			if k.Domain == name {
				out = append(out, k)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// mark is a status as a sign.
func mark(c *cli.Call, s doctor.Status) string {
	switch s {
	case doctor.Pass:
		return c.Paint("✓", cli.Green)
	case doctor.Fail:
		return c.Paint("✗", cli.Red)
	case doctor.Warn:
		return c.Paint("!", cli.Yellow)
	case doctor.Hint:
		return c.Paint("·", cli.Dim)
	}
	return c.Paint("?", cli.Yellow)
}

func showHealth(c *cli.Call, w io.Writer, r *doctor.Report) error {
	rows := make([][]string, 0, len(r.Checks))
	for _, k := range r.Checks {
		rows = append(rows, []string{mark(c, k.Status), k.Name, k.About, k.Text})
	}
	if err := c.Table(w, []string{"", "CHECK", "OF", "FOUND"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = rows[:0]
	urls := map[string]string{}
	var who []string
	for _, x := range r.Rules {
		if urls[x.Who] == "" {
			urls[x.Who] = x.URL
			who = append(who, x.Who)
		}
		why, _, _ := strings.Cut(x.Text, ": ") // which check; what it found stands above
		rows = append(rows, []string{mark(c, x.Status), x.Who, x.Rule, why})
	}
	if err := c.Table(w, []string{"", "RECEIVER", "RULE FOR BULK SENDERS", "WHY NOT"}, rows); err != nil {
		return err
	}
	for _, x := range who {
		fmt.Fprintf(w, "  %s: %s\n", x, urls[x])
	}
	if len(r.Publish) > 0 {
		fmt.Fprintf(w, "\n%s\n", c.Paint("Publish in DNS:", cli.Bold))
		for i := range r.Publish {
			fmt.Fprintf(w, "  %s\n", human.Clean(r.Publish[i].Zone()))
		}
	}
	return verdict(c, w, r)
}

// verdict is the last line.
func verdict(c *cli.Call, w io.Writer, r *doctor.Report) error {
	n := map[doctor.Status]int64{}
	for _, k := range r.Checks {
		n[k.Status]++
	}
	_, err := fmt.Fprintf(w, "\n%s: %s, %s, %d not known\n", r.Domain, human.Count(n[doctor.Fail], "failure", "failures"), human.Count(n[doctor.Warn], "warning", "warnings"), n[doctor.Unknown])
	return err
}
