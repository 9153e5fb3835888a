package resources

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/manifest"
	"hikyaku/tools/hikyaku/cli"
)

// editing are the flags of edit.
type editing struct {
	reason string
	waiting
}

func newEditCmd(c *cli.Call) *cobra.Command {
	var e editing
	cmd := &cobra.Command{
		Use:   "edit KIND NAME",
		Short: "Change a resource of policy in an editor",
		Long: `Open a resource as YAML in $VISUAL, $EDITOR or vi, and apply it when the editor
ends. Secrets are not in the file; left out, they are kept. If somebody else has
changed the resource meanwhile, nothing is applied, what they did is shown, and
the edit is kept in its file. Of a carrier that ships with the product, the file
holds what is set locally; what is in force stands below as comments.`,
		Example:           "  EDITOR=nano hikyaku edit Carrier docomo --reason \"new agreement\"",
		GroupID:           cli.GroupPolicy,
		Args:              cli.WantArgs(2, 2),
		ValidArgsFunction: completeResource(c),
		RunE:              func(cmd *cobra.Command, args []string) error { return edit(cmd.Context(), c, args[0], args[1], &e) },
	}
	cmd.Flags().StringVar(&e.reason, "reason", "", "why, for the history")
	e.flags(cmd)
	return cmd
}

func edit(ctx context.Context, c *cli.Call, kind, name string, e *editing) error {
	p, err := c.Policy()
	if err != nil {
		return err
	}
	before, err := p.GetInForce(ctx, kind, name)
	if err != nil {
		return err
	}
	text, err := manifest.Format(plain([]api.Resource{*before}))
	if err != nil {
		return err
	}
	if before.InForce != nil {
		inForce, err := carrierInForce(before)
		if err != nil {
			return err
		}
		text = append(text, inForce...)
	}
	path, err := openEditor(ctx, c, text)
	if err != nil {
		return err
	}
	kept := func(err error) error {
		return cli.Hint(err, "the edit is kept in %s; correct it there and \"hikyaku apply -f %s\"", path, path)
	}
	edited, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the edited file: %w", err)
	}
	if bytes.Equal(edited, text) {
		fmt.Fprintln(c.Err, "nothing was changed")
		return os.Remove(path)
	}
	f, err := manifest.Parse(path, edited)
	if err != nil {
		return kept(err)
	}
	if len(f.Resources) != 1 || f.Resources[0].Kind != before.Kind || f.Resources[0].Name != before.Name {
		return kept(fmt.Errorf("want one resource, %s/%s: edit changes neither kind nor name", before.Kind, before.Name))
	}
	r := f.Resources[0]
	res, err := p.Apply(ctx, &api.ApplyRequest{Reason: e.reason, Resources: []api.Resource{{Kind: r.Kind, Name: r.Name, Spec: r.Spec, Revision: cmp.Or(r.Revision, before.Revision)}}})
	var refused *client.Error
	if errors.As(err, &refused) {
		if refused.Status == http.StatusConflict {
			return overtaken(ctx, c, p, before, path, err)
		}
		if problems, ok := refused.Policy(); ok {
			return kept(f.Locate(problems))
		}
	}
	if err != nil {
		return kept(err)
	}
	if err := c.Print(res, func(w io.Writer) error { return showResult(c, w, res) }); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the edited file: %w", err)
	}
	return applied(ctx, c, &e.waiting, res.Revision, false)
}

// openEditor lets the user change text and gives the file that holds it.
func openEditor(ctx context.Context, c *cli.Call, text []byte) (path string, err error) {
	f, err := os.CreateTemp("", "hikyaku-edit-*.yaml") // mode 0600
	if err != nil {
		return "", fmt.Errorf("make a file to edit: %w", err)
	}
	path = f.Name()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("write the file to edit: %w", err)
	}
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	// The variable may hold arguments, as in "code --wait".
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.In, c.Out, c.Err
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("editor %q: %w; nothing was applied, the file is %s", editor, err, path)
	}
	return path, nil
}

// overtaken says what others did meanwhile, and how to go on.
func overtaken(ctx context.Context, c *cli.Call, p *client.Policy, before *api.Resource, path string, conflict error) error {
	now, err := p.Get(ctx, before.Kind, before.Name)
	switch {
	case cli.NotFound(err):
		return cli.Hint(conflict, "it was deleted meanwhile; the edit is kept in %s: take its revision line out and \"hikyaku apply -f %s\" to make it anew", path, path)
	case err != nil:
		return errors.Join(conflict, err)
	}
	fmt.Fprintln(c.Err, "changed meanwhile by somebody else:")
	if err := showDiff(c, c.Err, &api.Result{Effects: []api.Effect{{Action: "changed", Kind: before.Kind, Name: before.Name, Before: before, After: now}}}, "as it was", "in force"); err != nil {
		return err
	}
	return cli.Hint(conflict, "the edit is kept in %s: take over what is wanted, set its revision to %d, and \"hikyaku apply -f %s\"", path, now.Revision, path)
}
