package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
)

func newApplyCmd(c *cli) *cobra.Command {
	b := &batch{}
	dryRun := false
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create and change resources of policy, all or none",
		Long: `Bring the resources in files into force on the running node. All of them are
checked together with what is in force already; if one is wrong, nothing
changes. Resources that are not in the files stay as they are.

Secrets that a file leaves out are kept.`,
		Example: `  hikyaku apply -f policy.yaml --reason "new relay"
  hikyaku get Route sink -o yaml | sed s/2526/2527/ | hikyaku apply -f -`,
		GroupID: groupPolicy,
		Args:    wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.send(cmd.Context(), b, dryRun)
			if err != nil {
				return err
			}
			return c.print(r, func(w io.Writer) error { return c.showResult(w, r) })
		},
	}
	b.flags(cmd)
	cmd.Flags().StringVar(&b.reason, "reason", "", "why, for the history")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would happen and change nothing")
	return cmd
}

func newDiffCmd(c *cli) *cobra.Command {
	b := &batch{}
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change; exit code 1 if anything",
		Long: `Compare the resources in files with those in force, as "apply" would change
them. Secrets are not shown; that one differs is said.`,
		GroupID: groupPolicy,
		Args:    wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.send(cmd.Context(), b, true)
			if err != nil {
				return err
			}
			changed := false
			for _, e := range r.Effects {
				changed = changed || e.Action != "unchanged"
			}
			if err := c.print(r, func(w io.Writer) error { return c.showDiff(w, r) }); err != nil {
				return err
			}
			if changed {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	b.flags(cmd)
	return cmd
}

// showDiff prints a unified diff of the YAML of each resource.
func (c *cli) showDiff(w io.Writer, r *api.Result) error {
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
		text := diff.Diff(name+" (in force)", before, name+" (in file)", after)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "diff ") {
				continue // the two names follow
			}
			if _, err := io.WriteString(w, c.paintDiff(clean(line))); err != nil {
				return err
			}
		}
		if e.SecretChanged {
			if _, err := fmt.Fprintf(w, "%s: a secret, which is not shown, differs\n", clean(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cli) paintDiff(line string) string {
	text, end := strings.CutSuffix(line, "\n")
	switch {
	case strings.HasPrefix(line, "+"):
		text = c.paint(text, green)
	case strings.HasPrefix(line, "-"):
		text = c.paint(text, red)
	case strings.HasPrefix(line, "@@"):
		text = c.paint(text, cyan)
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
