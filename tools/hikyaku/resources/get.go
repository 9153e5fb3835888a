package resources

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
)

func newGetCmd(c *cli.Call) *cobra.Command {
	output := ""
	cmd := &cobra.Command{
		Use:   "get [KIND [NAME]]",
		Short: "Show resources of policy",
		Long: `Show the resources in force: all, those of a kind, or one. The kinds are
` + strings.Join(policy.Kinds(), ", ") + `.

What -o yaml prints can be given to "apply" again. Secrets are never shown; left
out of what is applied, they are kept.

Carriers ship with the product (docs/carriers.md). "get carriers" shows all that
are in force and where each is from: shipped, overridden (it ships, and local
settings change it) or local. "get carrier NAME" shows what is set locally and,
as comments, what is in force. With -o yaml, a list holds only what is set
locally.`,
		GroupID:           cli.GroupPolicy,
		Args:              cli.WantArgs(0, 2),
		ValidArgsFunction: completeResource(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.JSON && output == "" {
				output = "json"
			}
			if output != "" && output != "yaml" && output != "json" && output != "table" {
				return cli.UsageError("-o %q: want yaml, json or table", output)
			}
			p, err := c.Policy()
			if err != nil {
				return err
			}
			if len(args) == 2 {
				r, err := p.GetInForce(cmd.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				return showOne(c, r, output)
			}
			kind := ""
			list := p.List
			if len(args) == 1 {
				kind = args[0]
				if output != "yaml" {
					list = p.ListInForce
				}
			}
			l, err := list(cmd.Context(), kind)
			if err != nil {
				return err
			}
			return showList(c, l, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "yaml (default for one resource), table (default for more) or json")
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"yaml", "table", "json"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("BUG: " + err.Error())
	}
	return cmd
}

func showOne(c *cli.Call, r *api.Resource, output string) error {
	switch output {
	case "json":
		return c.PrintJSON(r)
	case "table":
		return resourceTable(c, []api.Resource{*r})
	}
	if r.InForce != nil {
		return showCarrier(c, r)
	}
	return printYAML(c, []api.Resource{*r})
}

func showList(c *cli.Call, l *api.List, output string) error {
	switch output {
	case "json":
		return c.PrintJSON(l)
	case "yaml":
		return printYAML(c, l.Resources)
	}
	if len(l.Resources) == 0 {
		_, err := fmt.Fprintln(c.Err, "there are no such resources; the built-in defaults are in force")
		return err
	}
	return resourceTable(c, l.Resources)
}

func printYAML(c *cli.Call, rs []api.Resource) error {
	text, err := manifest.Format(plain(rs))
	if err != nil {
		return err
	}
	_, err = c.Out.Write(text)
	return err
}

func resourceTable(c *cli.Call, rs []api.Resource) error {
	if len(rs) > 0 && rs[0].InForce != nil {
		return carriersInForce(c, rs)
	}
	rows := make([][]string, len(rs))
	for i, r := range rs {
		rows[i] = []string{r.Kind, r.Name, strconv.FormatInt(r.Revision, 10), summary(r.Spec)}
	}
	return c.Table(c.Out, []string{"KIND", "NAME", ">REVISION", "SPEC"}, rows)
}

// summary is a spec on one line, cut short.
func summary(spec any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(spec); err != nil {
		return "?"
	}
	const wide = 72
	s := strings.TrimSpace(b.String())
	if utf8.RuneCountInString(s) <= wide {
		return s
	}
	return string([]rune(s)[:wide-1]) + "…"
}

func newDeleteCmd(c *cli.Call) *cobra.Command {
	reason, dryRun, revision := "", false, int64(0)
	var wait waiting
	cmd := &cobra.Command{
		Use:   "delete KIND NAME",
		Short: "Delete a resource of policy",
		Long: `Delete one resource. It is refused while others refer to it. Mail that is queued
under its name goes on by the defaults.`,
		GroupID:           cli.GroupPolicy,
		Args:              cli.WantArgs(2, 2),
		ValidArgsFunction: completeResource(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.Policy()
			if err != nil {
				return err
			}
			r, err := p.Delete(cmd.Context(), api.Name{Kind: args[0], Name: args[1], Revision: revision}, reason, dryRun)
			if err != nil {
				return err
			}
			if err := c.Print(r, func(w io.Writer) error { return showResult(c, w, r) }); err != nil {
				return err
			}
			return applied(cmd.Context(), c, &wait, r.Revision, r.DryRun)
		},
	}
	wait.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	cmd.Flags().Int64Var(&revision, "revision", 0, "only if the resource is still at this revision")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would happen and change nothing")
	return cmd
}

// completeResource completes a kind, then the names of that kind.
func completeResource(c *cli.Call) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return policy.Kinds(), cobra.ShellCompDirectiveNoFileComp
		}
		p, err := c.Policy()
		if err != nil || len(args) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		l, err := p.ListInForce(cmd.Context(), args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, r := range l.Resources {
			names = append(names, r.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
