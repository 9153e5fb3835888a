package replies

import (
	"context"
	"fmt"
	"io"
	"slices"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

// showUnclassified lists what no rule knows: what a rule should be written for.
func showUnclassified(ctx context.Context, c *cli.Call, carrier string) error {
	m, err := mailbox.Open(ctx, c)
	if err != nil {
		return err
	}
	list, err := askUnclassified(ctx, m)
	if err != nil {
		return err
	}
	if carrier != "" {
		list.Items = slices.DeleteFunc(list.Items, func(r policyapi.StrangeReply) bool { return r.Carrier != carrier })
	}
	return c.Print(list, func(w io.Writer) error {
		mailbox.Missing(c, list.Coverage)
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

// askUnclassified asks all nodes, or the one that the server is.
func askUnclassified(ctx context.Context, m *mailbox.Mailbox) (*policyapi.ClusterStrangeReplies, error) {
	if m.Cluster != nil {
		return m.Cluster.Unclassified(ctx, nil)
	}
	list, err := m.Node.Unclassified(ctx)
	if err != nil {
		return nil, err
	}
	return mailbox.Reshape[policyapi.ClusterStrangeReplies](map[string]any{"items": list})
}
