package serve

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/config"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/manifests"
)

func newConfigCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check configuration files and show the reference",
		GroupID: cli.GroupTools,
	}
	cmd.AddCommand(newConfigCheckCmd(c), newConfigReferenceCmd(c))
	return cmd
}

// checked is the answer of "config check".
type checked struct {
	Config    string   `json:"config,omitempty"`
	Policy    []string `json:"policy,omitempty"`
	Resources int      `json:"resources,omitempty"`
	Warnings  []string `json:"warnings"`
}

func newConfigCheckCmd(c *cli.Call) *cobra.Command {
	var path string
	var policies []string
	offline := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check hikyaku.yaml and policy files without a running node",
		Long: `Read hikyaku.yaml and policy files as "serve" would, and say what is wrong with
them, or dangerous. The policy files are checked as a whole, as for an empty
node.`,
		Example: "  hikyaku config check --config hikyaku.yaml --policy policy.yaml",
		Args:    cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if path == "" && len(policies) == 0 {
				return cli.UsageError("give --config FILE, --policy FILE or both")
			}
			out := &checked{Config: path, Policy: policies, Warnings: []string{}}
			if path != "" {
				cfg, err := config.Load(path)
				if err != nil {
					return err
				}
				if !offline {
					if err := cfg.Files(); err != nil {
						return err
					}
				}
				out.Warnings = append(out.Warnings, cfg.Warnings()...)
			}
			if len(policies) > 0 {
				f, err := manifests.Read(c, policies)
				if err != nil {
					return err
				}
				if _, problems := policy.New(catalogue.Over(f.Resources)); len(problems) > 0 {
					return f.Locate(problems)
				}
				out.Resources = len(f.Resources)
			}
			return c.Print(out, func(w io.Writer) error { return showChecked(c, w, out) })
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "hikyaku.yaml to check")
	cmd.Flags().StringArrayVar(&policies, "policy", nil, "file or directory of resources to check; may be repeated")
	cmd.Flags().BoolVar(&offline, "no-files", false, "do not look at the files that hikyaku.yaml names")
	return cmd
}

func showChecked(c *cli.Call, w io.Writer, out *checked) error {
	for _, text := range out.Warnings {
		if _, err := fmt.Fprintf(w, "%s %s\n", c.Paint("warning:", cli.Yellow), human.Clean(text)); err != nil {
			return err
		}
	}
	if out.Config != "" {
		if _, err := fmt.Fprintf(w, "%s: ok\n", out.Config); err != nil {
			return err
		}
	}
	if len(out.Policy) > 0 {
		if _, err := fmt.Fprintf(w, "policy: ok, %s\n", human.Count(int64(out.Resources), "resource", "resources")); err != nil {
			return err
		}
	}
	return nil
}

func newConfigReferenceCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Print every key of hikyaku.yaml and of the resources of policy",
		Args:  cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(c.Out, config.Reference)
			return err
		},
	}
}
