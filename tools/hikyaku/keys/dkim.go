package keys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
	"hikyaku/node/dkim"
	"hikyaku/tools/hikyaku/cli"
)

func newDKIMCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dkim",
		Short:   "Make keys that sign mail",
		GroupID: cli.GroupTools,
	}
	cmd.AddCommand(newDKIMKeygenCmd(c))
	return cmd
}

// keygen is one key to make.
type keygen struct {
	domain, selector, kind, name, out string
}

// madeKey is the answer of "dkim keygen". The resource is YAML for apply.
type madeKey struct {
	DNSName  string `json:"dns_name"`
	DNSText  string `json:"dns_txt"`
	Resource string `json:"resource"`
	zone     string
}

func newDKIMKeygenCmd(c *cli.Call) *cobra.Command {
	k := &keygen{}
	cmd := &cobra.Command{
		Use:   "keygen --domain DOMAIN --selector SELECTOR",
		Short: "Make a key: the DNS record to publish and the resource to apply",
		Long: `Make a DKIM key. The output is a SigningKey resource for "apply" with the DNS
record in comments above it. Publish the record first: mail signed by a key that
cannot be looked up is worse than mail that is not signed.

With --out the private key goes into a file of its own, for the node to read, and
the resource names that file.`,
		Example: "  hikyaku dkim keygen --domain example.com --selector s1 > key.yaml\n  hikyaku apply -f key.yaml",
		Args:    cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			made, err := k.make()
			if err != nil {
				return err
			}
			return c.Print(made, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "# Publish this in DNS first:\n# %s\n%s", made.zone, made.Resource)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&k.domain, "domain", "", "domain that signs (d=)")
	cmd.Flags().StringVar(&k.selector, "selector", "", "selector (s=), a new one for each key, as in s1 or 2026a")
	cmd.Flags().StringVar(&k.kind, "type", dkim.RSA2048, dkim.RSA2048+" or "+dkim.Ed25519)
	cmd.Flags().StringVar(&k.name, "name", "", "name of the resource (default SELECTOR.DOMAIN)")
	cmd.Flags().StringVar(&k.out, "out", "", "write the private key to this new file instead")
	if err := cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{dkim.RSA2048, dkim.Ed25519}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("BUG: " + err.Error())
	}
	return cmd
}

func (k *keygen) make() (*madeKey, error) {
	domain, selector := strings.ToLower(k.domain), strings.ToLower(k.selector)
	if err := policy.CheckDomain(domain); err != nil {
		return nil, cli.UsageError("--domain %.80q is no domain: %v", k.domain, err)
	}
	if err := policy.CheckDomain(selector); err != nil {
		return nil, cli.UsageError("--selector %.80q is no selector: %v", k.selector, err)
	}
	if k.kind != dkim.RSA2048 && k.kind != dkim.Ed25519 {
		return nil, cli.UsageError("--type %.20q: want %s or %s", k.kind, dkim.RSA2048, dkim.Ed25519)
	}
	private, txt, err := dkim.Generate(k.kind)
	if err != nil {
		return nil, err
	}
	spec := &policy.SigningKey{Domain: domain, Selector: selector}
	r := policy.Resource{Kind: policy.KindSigningKey, Name: k.name, Spec: spec}
	if r.Name == "" {
		r.Name = resourceName(selector + "." + domain)
	}
	if k.out == "" {
		spec.PrivateKey = policy.NewSecret(private)
	} else if spec.PrivateKeyFile, err = writeKey(k.out, private); err != nil {
		return nil, err
	}
	if _, problems := policy.New([]policy.Resource{r}); len(problems) > 0 {
		return nil, problems
	}
	text, err := manifest.FormatRevealed([]policy.Resource{r})
	if err != nil {
		return nil, err
	}
	return &madeKey{
		DNSName: selector + "._domainkey." + domain, DNSText: txt,
		Resource: string(text), zone: dkim.ZoneRecord(selector, domain, txt),
	}, nil
}

// resourceName cuts a long domain down to what a resource's name can hold.
func resourceName(s string) string {
	const most = 64
	return strings.TrimRight(s[:min(len(s), most)], ".-_")
}

// writeKey makes a file that only its owner can read. It never replaces one: a
// key that is in use would be lost.
func writeKey(path, text string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("--out: %w", err)
	}
	f, err := os.OpenFile(abs, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("--out: %w", err)
	}
	_, err = io.WriteString(f, text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write the private key: %w", err)
	}
	return abs, nil
}
