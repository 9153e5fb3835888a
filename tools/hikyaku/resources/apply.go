package resources

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

func newApplyCmd(c *cli.Call) *cobra.Command {
	b := &batch{}
	dryRun := false
	var wait waiting
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create and change resources of policy, all or none",
		Long: `Bring the resources in files into force on the running node. All of them are
checked together with what is in force already; if one is wrong, nothing
changes. Resources that are not in the files stay as they are.

Secrets that a file leaves out are kept.`,
		Example: `  hikyaku apply -f policy.yaml --reason "new relay"
  hikyaku get Route sink -o yaml | sed s/2526/2527/ | hikyaku apply -f -`,
		GroupID: cli.GroupPolicy,
		Args:    cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := send(cmd.Context(), c, b, dryRun)
			if err != nil {
				return err
			}
			if err := c.Print(r, func(w io.Writer) error { return showResult(c, w, r) }); err != nil {
				return err
			}
			return applied(cmd.Context(), c, &wait, r.Revision, r.DryRun)
		},
	}
	b.flags(cmd)
	wait.flags(cmd)
	cmd.Flags().StringVar(&b.reason, "reason", "", "why, for the history")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would happen and change nothing")
	return cmd
}

func newDiffCmd(c *cli.Call) *cobra.Command {
	b := &batch{}
	cmd := &cobra.Command{
		Use:   "diff (-f FILE | FROM [TO])",
		Short: "Show what apply would change, or what two revisions differ in; exit code 1 if anything",
		Long: `Compare the resources in files with those in force, as "apply" would change
them; or two revisions of "hikyaku history", the second being that in force if
it is not given. Secrets are not shown; that one differs is said.`,
		Example: "  hikyaku diff -f policy.yaml\n  hikyaku diff 41 42",
		GroupID: cli.GroupPolicy,
		Args:    cli.WantArgs(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, names, err := compare(cmd.Context(), c, b, args)
			if err != nil {
				return err
			}
			changed := false
			for _, e := range r.Effects {
				changed = changed || e.Action != "unchanged"
			}
			if err := c.Print(r, func(w io.Writer) error { return showDiff(c, w, r, names[0], names[1]) }); err != nil {
				return err
			}
			if changed {
				return &cli.ExitError{Code: 1}
			}
			return nil
		},
	}
	b.flags(cmd)
	return cmd
}

// compare is a dry run of files, or what became of each resource between two
// revisions, with names for both sides.
func compare(ctx context.Context, c *cli.Call, b *batch, args []string) (*api.Result, [2]string, error) {
	if len(args) == 0 {
		r, err := send(ctx, c, b, true)
		return r, [2]string{"in force", "in file"}, err
	}
	var rev [2]int64
	names := [2]string{"", "in force"}
	for i, arg := range args {
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || n < 0 || n == 0 && i == 1 {
			return nil, names, cli.UsageError("revision %q: want a number from \"hikyaku history\"", arg)
		}
		rev[i], names[i] = n, "revision "+arg
	}
	if len(b.files) > 0 {
		return nil, names, cli.UsageError("give either -f FILE or revisions")
	}
	p, err := c.Policy()
	if err != nil {
		return nil, names, err
	}
	d, err := p.Diff(ctx, rev[0], rev[1])
	if err != nil {
		return nil, names, err
	}
	return &api.Result{Revision: d.To, Effects: d.Effects}, names, nil
}

// showDiff prints a unified diff of the YAML of each resource.
func showDiff(c *cli.Call, w io.Writer, r *api.Result, from, to string) error {
	for _, e := range r.Effects {
		before, err := yamlOf(e.Before)
		if err != nil {
			return err
		}
		after, err := yamlOf(e.After)
		if err != nil {
			return err
		}
		name := e.Kind + "/" + e.Name
		text := diff.Diff(name+" ("+from+")", before, name+" ("+to+")", after)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "diff ") {
				continue // the two names follow
			}
			if _, err := io.WriteString(w, paintDiff(c, human.Clean(line))); err != nil {
				return err
			}
		}
		if e.SecretChanged {
			if _, err := fmt.Fprintf(w, "%s: a secret, which is not shown, differs\n", human.Clean(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func paintDiff(c *cli.Call, line string) string {
	text, end := strings.CutSuffix(line, "\n")
	switch {
	case strings.HasPrefix(line, "+"):
		text = c.Paint(text, cli.Green)
	case strings.HasPrefix(line, "-"):
		text = c.Paint(text, cli.Red)
	case strings.HasPrefix(line, "@@"):
		text = c.Paint(text, cli.Cyan)
	}
	if end {
		text += "\n"
	}
	return text
}

func yamlOf(r *api.Resource) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	return manifest.Format([]policy.Resource{{Kind: r.Kind, Name: r.Name, Spec: r.Spec}})
}
