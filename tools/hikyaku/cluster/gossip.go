package cluster

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
	"hikyaku/tools/hikyaku/cli"
)

func newGossipCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use: "gossip", Short: "List the keys that nodes gossip by, and change them", GroupID: cli.GroupCluster,
		Long: `Nodes tell each other how they are by gossip, encrypted with a ring of keys that
is kept sealed in etcd. A key is changed in three steps, so that no node is ever
spoken to with one that it does not have: add a new one, use it, remove the old
one. "rotate" takes all three.`,
	}
	cmd.AddCommand(
		newGossipListCmd(c),
		newGossipTurnCmd(c, "add", "Add a new key, which nodes can read by from then on", 0, func(ctx context.Context, cl *client.Cluster, _ []string) error {
			_, err := cl.AddGossipKey(ctx)
			return err
		}),
		newGossipTurnCmd(c, "use KEY", "Have all nodes encrypt with a key of the ring", 1, func(ctx context.Context, cl *client.Cluster, args []string) error {
			return cl.UseGossipKey(ctx, args[0])
		}),
		newGossipTurnCmd(c, "remove KEY", "Take a key off the ring; not the one in use", 1, func(ctx context.Context, cl *client.Cluster, args []string) error {
			return cl.RemoveGossipKey(ctx, args[0])
		}),
		newGossipRotateCmd(c),
	)
	return cmd
}

func newGossipListCmd(c *cli.Call) *cobra.Command {
	return newGossipTurnCmd(c, "list", "List the keys, without showing them", 0, func(context.Context, *client.Cluster, []string) error { return nil })
}

// newGossipTurnCmd is a step, after which the ring is shown.
func newGossipTurnCmd(c *cli.Call, use, short string, args int, step func(context.Context, *client.Cluster, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cli.WantArgs(args, args),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			if err := step(cmd.Context(), cl, args); err != nil {
				return c.NoControl(err)
			}
			return showGossipKeys(cmd.Context(), c, cl)
		},
	}
}

func showGossipKeys(ctx context.Context, c *cli.Call, cl *client.Cluster) error {
	ks, err := cl.GossipKeys(ctx)
	if err != nil {
		return c.NoControl(err)
	}
	return c.Print(ks, func(w io.Writer) error {
		var rows [][]string
		for _, k := range ks {
			use := "read by"
			if k.InUse {
				use = "in use"
			}
			added := ""
			if !k.Added.IsZero() {
				added = k.Added.Local().Format(time.DateTime)
			}
			rows = append(rows, []string{k.ID, use, added, k.Author})
		}
		return c.Table(w, []string{"KEY", "STATE", "ADDED", "BY"}, rows)
	})
}

func newGossipRotateCmd(c *cli.Call) *cobra.Command {
	pause := policy.Duration(5 * time.Second)
	cmd := &cobra.Command{
		Use: "rotate", Short: "Change the key: add a new one, use it, remove the old one", Args: cli.WantArgs(0, 0),
		Long: `Adds a key, waits, has all nodes use it, waits, and removes the one before. Nodes
see a change within a second if etcd answers them; one that is cut off for longer
than --pause gossips with nobody until it is back.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return rotateGossip(cmd.Context(), c, pause.D()) },
	}
	cli.DurationFlag(cmd, &pause, "pause", 5*time.Second, "wait this `time` after each step")
	return cmd
}

func rotateGossip(ctx context.Context, c *cli.Call, pause time.Duration) error {
	cl, err := c.Control()
	if err != nil {
		return err
	}
	before, err := cl.GossipKeys(ctx)
	if err != nil {
		return c.NoControl(err)
	}
	added, err := cl.AddGossipKey(ctx)
	if err != nil {
		return c.NoControl(err)
	}
	fmt.Fprintf(c.Err, "added %s\n", added.ID)
	if err := rest(ctx, c, pause); err != nil {
		return err
	}
	if err := cl.UseGossipKey(ctx, added.ID); err != nil {
		return c.NoControl(err)
	}
	fmt.Fprintf(c.Err, "all nodes use it now\n")
	if err := rest(ctx, c, pause); err != nil {
		return err
	}
	for _, k := range oldKeys(before, added.ID) {
		if err := cl.RemoveGossipKey(ctx, k); err != nil {
			return c.NoControl(err)
		}
		fmt.Fprintf(c.Err, "removed %s\n", k)
	}
	return showGossipKeys(ctx, c, cl)
}

func oldKeys(ks []state.GossipKey, but string) []string {
	var out []string
	for _, k := range ks {
		if k.ID != but {
			out = append(out, k.ID)
		}
	}
	return out
}

// rest waits, or says that the change stands half done.
func rest(ctx context.Context, c *cli.Call, pause time.Duration) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the change of keys stands half done; \"hikyaku gossip list\" shows where: %w", context.Cause(ctx))
	}
}
