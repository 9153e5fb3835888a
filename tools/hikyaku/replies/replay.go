package replies

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"hikyaku/reputation"
	"hikyaku/spool/message"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/eventlog"
	"hikyaku/tools/hikyaku/human"
)

// replayed is what would differ under other rules.
type replayed struct {
	Events  int `json:"events"`
	Replies int `json:"replies"` // those that rules are asked about
	Changed int `json:"changed"`

	Changes []*replayChange `json:"changes,omitempty"`
	// Suppressed would have been, and were not; Spared were, and would not.
	Suppressed      []replayRecipient `json:"suppressed,omitempty"`
	SuppressedCount int               `json:"suppressed_count"`
	Spared          []replayRecipient `json:"spared,omitempty"`
	SparedCount     int               `json:"spared_count"`
	// Unclassified are replies that no rule knows, by their normalised text.
	Unclassified      []*replayGroup `json:"unclassified,omitempty"`
	UnclassifiedCount int            `json:"unclassified_count"`
	// Omitted are replies of groups beyond what was kept; their counts are right.
	Omitted int `json:"omitted,omitempty"`
}

// replayChange is replies that move from one category to another.
type replayChange struct {
	From    string `json:"from"` // "" was not recorded
	To      string `json:"to"`
	Was     string `json:"was,omitempty"` // the rule
	Rule    string `json:"rule"`
	Carrier string `json:"carrier,omitempty"`
	Count   int    `json:"count"`
	Sample  string `json:"sample"`
}

type replayRecipient struct {
	Recipient string `json:"recipient"`
	Carrier   string `json:"carrier,omitempty"`
	Reply     string `json:"reply"`
	Phase     string `json:"phase,omitempty"`
	Was       string `json:"was,omitempty"`
	Rule      string `json:"rule"`
}

type replayGroup struct {
	Carrier  string `json:"carrier,omitempty"`
	Category string `json:"category"`
	Rule     string `json:"rule"`
	Text     string `json:"text"`
	Count    int    `json:"count"`
	Sample   string `json:"sample"`
}

// replay is one pass over a log.
type replay struct {
	rules   *reputation.Rules
	limit   int
	out     replayed
	changes map[replayChange]*replayChange // by all but count and sample
	groups  map[replayGroup]*replayGroup
}

// maxReplayGroups bounds what a log of any size can make us keep.
const maxReplayGroups = 20_000

func replayEvents(ctx context.Context, c *cli.Call, o *classify, rules *reputation.Rules) error {
	if o.limit < 1 {
		return cli.UsageError("--limit %d: want 1 or more", o.limit)
	}
	r := &replay{rules: rules, limit: o.limit, changes: map[replayChange]*replayChange{}, groups: map[replayGroup]*replayGroup{}}
	if err := eventlog.Read(ctx, c, o.replay, func(rec *message.EventRecord) bool { r.event(rec); return true }); err != nil {
		return err
	}
	r.finish()
	return c.Print(&r.out, func(w io.Writer) error { return printReplay(c, w, &r.out) })
}

// event compares one event's reply.
func (r *replay) event(rec *message.EventRecord) {
	r.out.Events++
	if rec.Reply == nil || rec.Type != message.EventBounced && rec.Type != message.EventDeferred {
		return
	}
	v := r.rules.Classify(rec.Carrier, rec.Reply)
	if v.Category == reputation.Local || v.Category == reputation.Delivered {
		return
	}
	r.out.Replies++
	was, recorded := r.rules.Recorded(reputation.Category(rec.Category), rec.Rule, rec.Reply)
	if was.Category != v.Category {
		r.out.Changed++
		r.change(rec, v)
	}
	if v.Guessed() {
		r.out.UnclassifiedCount++
		r.unclassified(rec, v)
	}
	before := recorded && rec.Type == message.EventBounced && was.Suppresses()
	if after := v.Suppresses(); after != before {
		who := replayRecipient{rec.Recipient, rec.Carrier, rec.Reply.String(), rec.Reply.Phase.String(), rec.Rule, v.Rule}
		list, count := &r.out.Suppressed, &r.out.SuppressedCount
		if before {
			list, count = &r.out.Spared, &r.out.SparedCount
		}
		if *count++; len(*list) < r.limit {
			*list = append(*list, who)
		}
	}
}

func (r *replay) change(rec *message.EventRecord, v reputation.Verdict) {
	key := replayChange{From: rec.Category, To: string(v.Category), Was: rec.Rule, Rule: v.Rule, Carrier: rec.Carrier}
	x := r.changes[key]
	if x == nil {
		if len(r.changes) >= maxReplayGroups {
			r.out.Omitted++
			return
		}
		c := key
		c.Sample = rec.Reply.String()
		x = &c
		r.changes[key] = x
	}
	x.Count++
}

func (r *replay) unclassified(rec *message.EventRecord, v reputation.Verdict) {
	key := replayGroup{Carrier: rec.Carrier, Category: string(v.Category), Rule: v.Rule, Text: reputation.Normalise(rec.Reply.Text, rec.Recipient)}
	x := r.groups[key]
	if x == nil {
		if len(r.groups) >= maxReplayGroups {
			r.out.Omitted++
			return
		}
		c := key
		c.Sample = rec.Reply.String()
		x = &c
		r.groups[key] = x
	}
	x.Count++
}

// finish puts the groups in order, the most frequent first.
func (r *replay) finish() {
	for _, x := range r.changes {
		r.out.Changes = append(r.out.Changes, x)
	}
	slices.SortFunc(r.out.Changes, func(a, b *replayChange) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Was, b.Was))
	})
	for _, x := range r.groups {
		r.out.Unclassified = append(r.out.Unclassified, x)
	}
	slices.SortFunc(r.out.Unclassified, func(a, b *replayGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Rule, b.Rule))
	})
	r.out.Changes = r.out.Changes[:min(len(r.out.Changes), r.limit)]
	r.out.Unclassified = r.out.Unclassified[:min(len(r.out.Unclassified), r.limit)]
}

func printReplay(c *cli.Call, w io.Writer, r *replayed) error {
	fmt.Fprintf(w, "%s, %s; %d would be of another category\n",
		human.Count(int64(r.Events), "event", "events"), human.Count(int64(r.Replies), "reply", "replies"), r.Changed)
	var rows [][]string
	for _, x := range r.Changes {
		rows = append(rows, []string{fmt.Sprint(x.Count), orDash(x.From), x.To, x.Carrier, x.Rule, shorten(x.Sample)})
	}
	if err := section(c, w, "", []string{">COUNT", "RECORDED", "NOW", "CARRIER", "RULE", "SAMPLE"}, rows); err != nil {
		return err
	}
	for _, l := range []struct {
		count int
		text  string
		list  []replayRecipient
	}{
		{r.SuppressedCount, "suppressed beyond those that were", r.Suppressed},
		{r.SparedCount, "not suppressed that were", r.Spared},
	} {
		rows = nil
		for _, x := range l.list {
			rows = append(rows, []string{x.Recipient, x.Carrier, x.Phase, x.Rule, shorten(x.Reply)})
		}
		title := fmt.Sprintf("%s %s", human.Count(int64(l.count), "recipient", "recipients"), l.text)
		if err := section(c, w, title, []string{"RECIPIENT", "CARRIER", "PHASE", "RULE", "REPLY"}, rows); err != nil {
			return err
		}
	}
	rows = nil
	for _, x := range r.Unclassified {
		rows = append(rows, []string{fmt.Sprint(x.Count), x.Carrier, x.Category, x.Rule, x.Text})
	}
	title := human.Count(int64(r.UnclassifiedCount), "reply", "replies") + " that no rule knows"
	return section(c, w, title, []string{">COUNT", "CARRIER", "CATEGORY", "READ BY", "TEXT"}, rows)
}

// section is a table under a title; nothing where there are no rows.
func section(c *cli.Call, w io.Writer, title string, header []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if title != "" {
		title = c.Paint(title, cli.Bold) + "\n"
	}
	if _, err := io.WriteString(w, "\n"+title); err != nil {
		return err
	}
	return c.Table(w, header, rows)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shorten keeps a reply to what fits beside others.
func shorten(s string) string {
	const most = 100
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
