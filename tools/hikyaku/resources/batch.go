package resources

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/manifests"
)

// batch is the flags that apply and diff share.
type batch struct {
	files    []string
	revision int64
	reason   string
}

func (b *batch) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&b.files, "file", "f", nil, "file or directory of resources, \"-\" for standard input; may be repeated")
	cmd.Flags().Int64Var(&b.revision, "revision", 0, "only if the policy is still at this revision")
	if err := cmd.MarkFlagFilename("file", "yaml", "yml"); err != nil {
		panic("BUG: " + err.Error())
	}
}

// send applies the files, or tries to. Problems come back with file and line.
func send(ctx context.Context, c *cli.Call, b *batch, dryRun bool) (*api.Result, error) {
	if len(b.files) == 0 {
		return nil, cli.UsageError("give the resources with -f FILE, or -f - for standard input")
	}
	f, err := manifests.Read(c, b.files)
	if err != nil {
		return nil, err
	}
	p, err := c.Policy()
	if err != nil {
		return nil, err
	}
	req := &api.ApplyRequest{ExpectedRevision: b.revision, Reason: b.reason, DryRun: dryRun}
	for _, r := range f.Resources {
		req.Resources = append(req.Resources, api.Resource{Kind: r.Kind, Name: r.Name, Spec: r.Spec, Revision: r.Revision})
	}
	res, err := p.Apply(ctx, req)
	var refused *client.Error
	if errors.As(err, &refused) {
		if problems, ok := refused.Policy(); ok {
			return nil, f.Locate(problems)
		}
	}
	return res, err
}

// plain turns API resources into policy's.
func plain(rs []api.Resource) []policy.Resource {
	out := make([]policy.Resource, len(rs))
	for i, r := range rs {
		out[i] = policy.Resource{Kind: r.Kind, Name: r.Name, Spec: r.Spec, Revision: r.Revision}
	}
	return out
}

// showResult prints a line for each effect and the revision.
func showResult(c *cli.Call, w io.Writer, r *api.Result) error {
	for _, e := range r.Effects {
		col := cli.Color("")
		switch e.Action {
		case "created":
			col = cli.Green
		case "changed":
			col = cli.Yellow
		case "deleted":
			col = cli.Red
		case "unchanged":
			col = cli.Dim
		}
		action := fmt.Sprintf("%-9s", e.Action)
		if col != "" {
			action = c.Paint(action, col)
		}
		if _, err := fmt.Fprintf(w, "%s  %s/%s\n", action, human.Clean(e.Kind), human.Clean(e.Name)); err != nil {
			return err
		}
	}
	if r.DryRun {
		_, err := fmt.Fprintf(w, "nothing was changed (dry run); the policy is at revision %d\n", r.Revision)
		return err
	}
	_, err := fmt.Fprintf(w, "revision %d\n", r.Revision)
	return err
}
