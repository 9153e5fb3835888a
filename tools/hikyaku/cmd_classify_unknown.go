package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// showUnclassified lists what no rule knows: what a rule should be written for.
func showUnclassified(ctx context.Context, c *cli.Call, carrier string) error {
	m, err := Open(ctx, c)
	if err != nil {
		return err
	}
	list, err := m.unclassified(ctx)
	if err != nil {
		return err
	}
	if carrier != "" {
		list.Items = slices.DeleteFunc(list.Items, func(r policyapi.StrangeReply) bool { return r.Carrier != carrier })
	}
	return c.Print(list, func(w io.Writer) error {
		missing(c, list.Coverage)
		if len(list.Items) == 0 {
			_, err := fmt.Fprintln(w, "no reply was without a rule")
			return err
		}
		var rows [][]string
		for i := range list.Items {
			r := &list.Items[i]
			code := fmt.Sprint(r.Code)
			if r.Enhanced != "" {
				code += " " + r.Enhanced
			}
			rows = append(rows, []string{human.Number(r.N), r.Carrier, r.Phase, code, human.Since(&r.Last), human.Clean(r.Text)})
		}
		return c.Table(w, []string{">times", "carrier", "step", "code", "last", "text"}, rows)
	})
}

// unclassified asks all nodes, or the one that the server is.
func (m *mailbox) unclassified(ctx context.Context) (*policyapi.ClusterStrangeReplies, error) {
	if m.cluster != nil {
		return m.cluster.Unclassified(ctx, nil)
	}
	list, err := m.node.Unclassified(ctx)
	if err != nil {
		return nil, err
	}
	return reshape[policyapi.ClusterStrangeReplies](map[string]any{"items": list})
}
