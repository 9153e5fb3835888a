package mailbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	nodeclient "hikyaku/node/api/client"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// Mailbox is where questions about mail go: to all nodes where the server is a
// control plane, else to the one node that the server is.
type Mailbox struct {
	Node    *nodeclient.Client
	Cluster *client.Cluster // nil where the server is no control plane
}

// NodeFlag adds the flag that narrows a command, and those below it, to nodes.
func NodeFlag(c *cli.Call, cmd *cobra.Command) {
	cmd.PersistentFlags().StringSliceVar(&c.Nodes, "node", nil, "ask only this `node` of the cluster; may be repeated")
}

// Open finds out what the server is.
func Open(ctx context.Context, c *cli.Call) (*Mailbox, error) {
	cl, err := c.Client()
	if err != nil {
		return nil, err
	}
	m := &Mailbox{Node: nodeclient.New(cl), Cluster: cl.Cluster(cli.Whoami())}
	_, err = m.Cluster.Summary(ctx)
	switch {
	case cli.NotFound(err) && len(c.Nodes) > 0:
		return nil, cli.UsageError("--node: the server at %s is a node and no control plane; give --api the address of the node itself", c.API)
	case cli.NotFound(err):
		m.Cluster = nil
	case err != nil:
		return nil, err
	}
	return m, nil
}

// Reshape turns a node's answer into the cluster's shape of the same, which has
// all its fields.
func Reshape[T any](v any) (*T, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("show the answer: %w", err)
	}
	out := new(T)
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("show the answer: %w", err)
	}
	return out, nil
}

// Missing says on stderr which nodes an answer is not about.
func Missing(c *cli.Call, v policyapi.Coverage) {
	if v.Complete || v.Nodes == 0 {
		return
	}
	fmt.Fprintf(c.Err, "%d of %s answered; this lacks:\n", v.Answered, human.Count(int64(v.Nodes), "node", "nodes"))
	for _, m := range v.Missing {
		fmt.Fprintf(c.Err, "  %s: %s\n", human.Clean(m.Node), human.Clean(m.Reason))
	}
}

// Gaps joins what pages of one listing lack.
func Gaps(into, page policyapi.Coverage) policyapi.Coverage {
	if into.Nodes == 0 {
		return page
	}
	for _, m := range page.Missing {
		into.Missing = append(into.Missing, m)
		into.Answered--
	}
	into.Complete = len(into.Missing) == 0
	return into
}

// WithNode puts a column of node names before a table, where rows have one.
func WithNode(header []string, rows [][]string, names []string) ([]string, [][]string) {
	any := false
	for _, n := range names {
		any = any || n != ""
	}
	if !any {
		return header, rows
	}
	for i := range rows {
		rows[i] = append([]string{names[i]}, rows[i]...)
	}
	return append([]string{"NODE"}, header...), rows
}

// MaxPage is how many the API gives at once.
const MaxPage = 1000
