package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	nodeclient "hikyaku/node/api/client"
	"hikyaku/node/events"
	"hikyaku/spool/message"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newEventsCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "events",
		Short:   "Follow and search the event log",
		GroupID: cli.GroupMail,
	}
	mailbox.NodeFlag(c, cmd)
	cmd.AddCommand(newEventsTailCmd(c), newEventsSearchCmd(c))
	return cmd
}

// eventFlags are the flags that pick events.
type eventFlags struct {
	q            api.EventQuery
	since, until string
}

func (f *eventFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.q.ID, "id", "", "message or delivery id")
	fl.StringVar(&f.q.Recipient, "recipient", "", "recipient, or @domain")
	fl.StringVar(&f.q.Sender, "sender", "", "envelope sender, or @domain")
	fl.StringVar(&f.q.Tenant, "tenant", "", "tenant")
	fl.StringVar(&f.q.Stream, "stream", "", "stream")
	fl.StringVar(&f.q.Job, "job", "", "job")
	fl.StringVar(&f.q.Tag, "tag", "", "tag")
	fl.StringVar(&f.q.Type, "type", "", "event types, as in bounced,expired")
	fl.StringVar(&f.q.Destination, "destination", "", "recipient domain")
	fl.StringVar(&f.q.Carrier, "carrier", "", "carrier")
	fl.StringVar(&f.q.Source, "source", "", "source")
	fl.StringVar(&f.since, "since", "", "from then on: a span back (2h, 3d) or a time")
}

// query reads the flags and the one argument, which may be an id, an address
// or a domain.
func (f *eventFlags) query(args []string) (api.EventQuery, error) {
	q := f.q
	var err error
	now := time.Now()
	if q.Since, err = cli.When("since", f.since, now); err != nil {
		return q, err
	}
	if q.Until, err = cli.When("until", f.until, now); err != nil {
		return q, err
	}
	if len(args) == 0 {
		return q, nil
	}
	field, flag := &q.Destination, "destination"
	switch {
	case isID(args[0]):
		field, flag = &q.ID, "id"
	case strings.Contains(args[0], "@"):
		field, flag = &q.Recipient, "recipient"
	}
	if *field != "" {
		return q, cli.UsageError("the %s is given twice: %q and --%s %q", flag, args[0], flag, *field)
	}
	*field = args[0]
	return q, nil
}

func isID(s string) bool {
	s = strings.ToLower(s)
	if _, err := message.ParseID(s); err == nil {
		return true
	}
	_, err := message.ParseDeliveryID(s)
	return err == nil
}

func newEventsTailCmd(c *cli.Call) *cobra.Command {
	var f eventFlags
	var d policy.Duration
	cmd := &cobra.Command{
		Use:     "tail [ID|ADDRESS|DOMAIN]",
		Short:   "Follow the event log",
		Example: "  hikyaku events tail --type bounced,deferred --destination docomo.ne.jp",
		Args:    cli.WantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query(args)
			if err != nil {
				return err
			}
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			if m.Cluster == nil {
				return ended(cmd.Context(), m.Node.TailEvents(cmd.Context(), q, d.D(), eventLine(c)))
			}
			end, err := m.Cluster.TailEvents(cmd.Context(), eventFilter(c, q), d.D(), eventLine(c))
			streamMissing(c, end)
			return ended(cmd.Context(), err)
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.q.Limit, "limit", 1_000_000, "end after this many")
	cli.DurationFlag(cmd, &d, "for", 24*time.Hour, "end after this `time`")
	return cmd
}

// ended takes the user's Ctrl-C for what it is: the wanted end of a stream.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	if errors.Is(err, nodeclient.ErrCut) || errors.Is(err, client.ErrCut) {
		return cli.Hint(err, "the node may have stopped; \"hikyaku top --once\" shows whether it is back")
	}
	return err
}

func newEventsSearchCmd(c *cli.Call) *cobra.Command {
	var f eventFlags
	var dir string
	cmd := &cobra.Command{
		Use:   "search [ID|ADDRESS|DOMAIN]",
		Short: "Search the event log, oldest first",
		Example: `  hikyaku events search user@example.com --since 2d
  hikyaku events search --type bounced --job news-1 --json
  hikyaku events search 01jd3q8v5x2m9k7c4t6r0w1yza --dir /backup/events`,
		Args: cli.WantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query(args)
			if err != nil {
				return err
			}
			found, err := searchEvents(cmd.Context(), c, dir, q)
			if err = ended(cmd.Context(), err); err != nil {
				return err
			}
			searchNotes(c, found)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.until, "until", "", "up to then: a span back (1h) or a time")
	cmd.Flags().IntVar(&f.q.Limit, "limit", 1000, "end after this many")
	cmd.Flags().StringVar(&dir, "dir", "", "search this directory instead of asking a node")
	return cmd
}

func searchEvents(ctx context.Context, c *cli.Call, dir string, q api.EventQuery) (*api.EventsFound, error) {
	if dir == "" {
		m, err := mailbox.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		if m.Cluster == nil {
			return m.Node.SearchEvents(ctx, q, eventLine(c))
		}
		end, err := m.Cluster.SearchEvents(ctx, eventFilter(c, q), eventLine(c))
		streamMissing(c, end)
		if end == nil || end.Found == nil {
			return nil, err
		}
		found := api.EventsFound(*end.Found)
		return &found, err
	}
	found, err := events.SearchDir(ctx, dir, events.Query(q), func(_ *message.EventRecord, line []byte) error { return eventLine(c)(line) })
	out := api.EventsFound(found)
	return &out, err
}

// eventFilter is a query for all nodes.
func eventFilter(c *cli.Call, q api.EventQuery) client.EventFilter {
	return client.EventFilter{ID: q.ID, Recipient: q.Recipient, Sender: q.Sender, Tenant: q.Tenant, Stream: q.Stream, Job: q.Job, Tag: q.Tag, Type: q.Type,
		Destination: q.Destination, Carrier: q.Carrier, Source: q.Source, Since: q.Since, Until: q.Until, Limit: q.Limit, Nodes: c.Nodes}
}

// streamMissing says which nodes a stream did not have.
func streamMissing(c *cli.Call, end *policyapi.StreamEnd) {
	if end != nil {
		mailbox.Missing(c, end.Coverage)
	}
}

// searchNotes says on stderr what the lines do not: they go to a pipe.
func searchNotes(c *cli.Call, f *api.EventsFound) {
	if f == nil {
		return
	}
	if f.Matches == 0 {
		fmt.Fprintln(c.Err, "no event matches")
	}
	if f.Limited {
		fmt.Fprintf(c.Err, "ended after %s; --limit shows more\n", human.Count(int64(f.Matches), "event", "events"))
	}
	if f.DamagedBytes > 0 {
		fmt.Fprintf(c.Err, "%s of the log are damaged and were left out\n", human.Size(f.DamagedBytes))
	}
}

// eventLine prints one line of the log: as it is with --json.
func eventLine(c *cli.Call) func(line []byte) error {
	return func(line []byte) error {
		if c.JSON {
			_, err := fmt.Fprintf(c.Out, "%s\n", strings.TrimSuffix(string(line), "\n"))
			return err
		}
		r, err := nodeclient.DecodeEvent(line)
		if err != nil {
			return err
		}
		_, err = io.WriteString(c.Out, eventText(c, r)+"\n")
		return err
	}
}

// eventText is one event on one line.
func eventText(c *cli.Call, r *message.EventRecord) string {
	var b strings.Builder
	kind := c.Paint(fmt.Sprintf("%-9s", r.Type), cli.StateColor(string(r.Type)))
	fmt.Fprintf(&b, "%s %s %s", r.Time.Local().Format("2006-01-02 15:04:05.000"), kind, r.ID)
	if r.Recipient != "" {
		fmt.Fprintf(&b, " %s", human.Clean(r.Recipient))
	}
	if r.Type == message.EventAccepted {
		fmt.Fprintf(&b, " from %s", human.Clean(orNull(r.Sender)))
		if r.Via != "" {
			fmt.Fprintf(&b, " by %s", human.Clean(strings.TrimSpace(r.Via+" "+r.From)))
		}
	}
	if r.Host != "" {
		fmt.Fprintf(&b, " %s → %s", human.Clean(r.Source), human.Clean(r.Host))
	}
	if r.Attempt > 0 {
		fmt.Fprintf(&b, " try %d", r.Attempt)
	}
	if us := r.StagesUS["total"]; us > 0 {
		fmt.Fprintf(&b, " after %s", human.Span(time.Duration(us)*time.Microsecond))
	}
	if text := human.ReplyText(r.Reply); text != "" {
		fmt.Fprintf(&b, ": %s", human.Clean(text))
	}
	if r.NextDue != nil {
		fmt.Fprintf(&b, ", next %s", r.NextDue.Local().Format("15:04:05"))
	}
	return b.String()
}

func orNull(sender string) string {
	if sender == "" {
		return "<>"
	}
	return sender
}
