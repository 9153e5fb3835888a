package replies

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/spool/message"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/manifests"
)

// classify is the flags of "hikyaku classify".
type classify struct {
	carrier, phase, fault string
	files                 []string
	categories, rules     bool
	unclassified          bool
	replay                string
	limit                 int
}

func newClassifyCmd(c *cli.Call) *cobra.Command {
	o := &classify{}
	cmd := &cobra.Command{
		Use:     "classify [REPLY...]",
		Short:   "Say what a reply means, and try rules about replies",
		GroupID: cli.GroupMail,
		Long: `Say what a remote server's reply means, by which rule, and what follows from it.
The reply is given as arguments, or on standard input. The rules are those that
come with the program, and before them the ReplyRule resources given with -f; no
node is asked, but for --unclassified.

Without --phase the answer is shown for each step in which it differs: the same
words mean different things at RCPT and after the content. A reply copied from a
Postfix log brings its step along ("in reply to RCPT TO command").

With --replay the event log is read again, and what the rules make of each reply
is compared with what was recorded: which categories change, and which recipients
would have been suppressed or would not. FILE is JSON lines ("hikyaku events
search --json"), a segment of the event log or the directory of one, or "-".`,
		Example: `  hikyaku classify 550 5.1.1 No such user
  hikyaku classify --carrier docomo --phase dot "550 Unknown user x@docomo.ne.jp"
  hikyaku classify --rules --carrier gmail
  hikyaku events search --since 1d --json | hikyaku classify --replay - -f rules.yaml`,
		Args: cli.WantArgs(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error { return runClassify(c, cmd, o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.carrier, "carrier", "", "carrier that said it; for --rules, only its rules")
	f.StringVar(&o.phase, "phase", "", "step in which it was said, as rcpt or dot")
	f.StringVar(&o.fault, "fault", "", "what happened in place of a reply, as reset or timeout")
	f.StringArrayVarP(&o.files, "file", "f", nil, "file or directory of ReplyRule resources to ask first; may be repeated")
	f.BoolVar(&o.categories, "categories", false, "list the categories and actions")
	f.BoolVar(&o.rules, "rules", false, "list the rules in the order in which they are asked")
	f.BoolVar(&o.unclassified, "unclassified", false, "list the replies that no rule knows, in groups, as the nodes have seen them since they started")
	f.StringVar(&o.replay, "replay", "", "read this event log again, and show what would differ")
	f.IntVar(&o.limit, "limit", 50, "with --replay, show at most this many of each kind")
	cmd.MarkFlagsMutuallyExclusive("categories", "rules", "replay", "unclassified")
	if err := cmd.MarkFlagFilename("file", "yaml", "yml"); err != nil {
		panic("BUG: " + err.Error())
	}
	return cmd
}

func runClassify(c *cli.Call, cmd *cobra.Command, o *classify, args []string) error {
	if len(args) > 0 && (o.categories || o.rules || o.replay != "" || o.unclassified) {
		return cli.UsageError("a reply does not go with --categories, --rules, --replay or --unclassified")
	}
	if o.unclassified {
		return showUnclassified(cmd.Context(), c, o.carrier)
	}
	if o.categories {
		return printCategories(c)
	}
	rules, err := replyRules(c, o.files)
	if err != nil {
		return err
	}
	if o.carrier != "" && !slices.Contains(rules.Carriers(), o.carrier) {
		fmt.Fprintf(c.Err, "there are no rules for a carrier %q: the general ones count\n", human.Clean(o.carrier))
	}
	switch {
	case o.rules:
		return printRules(c, rules, o.carrier)
	case o.replay != "":
		return replayEvents(cmd.Context(), c, o, rules)
	}
	return classifyOne(c, o, rules, args)
}

// replyRules are the rules of the program and those of the files.
func replyRules(c *cli.Call, files []string) (*reputation.Rules, error) {
	if len(files) == 0 {
		return reputation.Shipped(), nil
	}
	f, err := manifests.Read(c, files)
	if err != nil {
		return nil, err
	}
	own := map[string]*policy.ReplyRule{}
	for _, r := range f.Resources {
		if spec, ok := r.Spec.(*policy.ReplyRule); ok {
			own[r.Name] = spec
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("there is no %s in what was given with -f", policy.KindReplyRule)
	}
	rules, problems := reputation.Compile(own)
	return rules, f.Locate(problems)
}

// classified is one answer.
type classified struct {
	Phase      string `json:"phase,omitempty"`
	Category   string `json:"category"`
	Meaning    string `json:"meaning"`
	About      string `json:"about,omitempty"`
	Action     string `json:"action,omitempty"`
	Then       string `json:"then,omitempty"`
	Final      bool   `json:"final"`
	RetryAfter string `json:"retry_after,omitempty"`
	Rule       string `json:"rule,omitempty"`
	Why        string `json:"why,omitempty"`
}

func classifyOne(c *cli.Call, o *classify, rules *reputation.Rules, args []string) error {
	reply, err := oneReply(c, o, args)
	if err != nil {
		return err
	}
	phases := []message.Phase{reply.Phase}
	all := reply.Phase == message.PhaseNone
	if all {
		for p := message.PhaseConnect; p <= message.PhaseQuit; p++ {
			phases = append(phases, p)
		}
	}
	var answers []classified
	for _, p := range phases {
		reply.Phase = p
		a := answerOf(rules, rules.Classify(o.carrier, &reply))
		a.Phase = p.String()
		answers = append(answers, a)
	}
	first := answers[0]
	differ := slices.DeleteFunc(slices.Clone(answers), func(a classified) bool {
		a.Phase = first.Phase
		return a == first
	})
	if all && len(differ) == 0 {
		answers = answers[:1]
	}
	if c.JSON {
		return c.PrintJSON(answers)
	}
	if err := printAnswer(c, first); err != nil || len(differ) == 0 {
		return err
	}
	fmt.Fprintf(c.Out, "\nwith --phase it is something else in these steps:\n")
	var rows [][]string
	for _, a := range differ {
		rows = append(rows, []string{a.Phase, a.Category, a.About, a.Action, human.YesNo(a.Final), a.Rule})
	}
	return c.Table(c.Out, []string{"PHASE", "CATEGORY", "ABOUT", "ACTION", "FINAL", "RULE"}, rows)
}

// oneReply reads the reply from the arguments or standard input.
func oneReply(c *cli.Call, o *classify, args []string) (message.Reply, error) {
	text := strings.Join(args, " ")
	if text == "" || text == "-" {
		b, err := io.ReadAll(io.LimitReader(c.In, strict.MaxSize))
		if err != nil {
			return message.Reply{}, fmt.Errorf("read the reply: %w", err)
		}
		text = string(b)
	}
	var fault message.Fault
	if err := fault.UnmarshalText([]byte(o.fault)); err != nil {
		return message.Reply{}, cli.UsageError("--fault: %v", err)
	}
	if strings.TrimSpace(text) == "" && fault != message.FaultNone {
		text = "451 " + o.fault // as a node would say it
	}
	text, phase := postfixPhase(text)
	reply, err := reputation.ParseReply(text)
	if err != nil {
		return reply, cli.UsageError("%v", err)
	}
	reply.Fault = fault
	if o.phase != "" {
		phase = o.phase
	}
	if err := reply.Phase.UnmarshalText([]byte(phase)); err != nil {
		return reply, cli.UsageError("--phase: %v", err)
	}
	return reply, nil
}

// postfixSteps are the words in which Postfix notes the step of a reply.
var postfixSteps = []struct{ words, phase string }{
	{"(in reply to MAIL FROM command", "mail"}, {"(in reply to RCPT TO command", "rcpt"},
	{"(in reply to end of DATA command", "dot"}, {"(in reply to DATA command", "data"},
	{"(in reply to EHLO command", "ehlo"}, {"(in reply to HELO command", "ehlo"},
}

// postfixPhase takes the note of the step off a reply that was copied from a
// Postfix log.
func postfixPhase(text string) (reply, phase string) {
	for _, s := range postfixSteps {
		if i := strings.LastIndex(text, s.words); i >= 0 {
			return text[:i], s.phase
		}
	}
	return text, ""
}

func answerOf(rules *reputation.Rules, v reputation.Verdict) classified {
	a := classified{Category: string(v.Category), About: string(v.About), Action: string(v.Action), Final: v.Final, Rule: v.Rule}
	for _, m := range reputation.Meanings() {
		if m.Category == v.Category {
			a.Meaning = m.Text
		}
	}
	for _, x := range reputation.Consequences() {
		if x.Action == v.Action {
			a.Then = x.Text
		}
	}
	if v.RetryAfter > 0 {
		a.RetryAfter = policy.Duration(v.RetryAfter).String()
	}
	for _, r := range rules.List() {
		if r.Name == v.Rule {
			a.Why = r.Why
		}
	}
	return a
}

func printAnswer(c *cli.Call, a classified) error {
	line := func(name, value, more string) {
		if value == "" {
			return
		}
		if more != "" {
			more = "  " + c.Paint(more, cli.Dim)
		}
		fmt.Fprintf(c.Out, "%-12s %s%s\n", name, value, more)
	}
	line("category", a.Category, a.Meaning)
	line("about", a.About, "")
	line("action", a.Action, a.Then)
	line("retry after", a.RetryAfter, "")
	line("final", human.YesNo(a.Final), "")
	rule := a.Why
	if strings.HasPrefix(a.Rule, "fallback/") {
		rule = "no rule knows it; read by its codes"
	}
	line("rule", a.Rule, rule)
	return nil
}

// categoriesList is the answer of --categories.
type categoriesList struct {
	Categories []categoryWord `json:"categories"`
	Actions    []actionWord   `json:"actions"`
}

type categoryWord struct {
	Category   string `json:"category"`
	Meaning    string `json:"meaning"`
	About      string `json:"about,omitempty"`
	Temporary  string `json:"temporary,omitempty"`
	Permanent  string `json:"permanent,omitempty"`
	RetryAfter string `json:"retry_after,omitempty"`
}

type actionWord struct {
	Action string `json:"action"`
	Then   string `json:"then"`
}

func printCategories(c *cli.Call) error {
	var l categoriesList
	var words, actions [][]string
	for _, m := range reputation.Meanings() {
		w := categoryWord{string(m.Category), m.Text, string(m.About), string(m.Temporary), string(m.Permanent), ""}
		if m.RetryAfter > 0 {
			w.RetryAfter = policy.Duration(m.RetryAfter).String()
		}
		l.Categories = append(l.Categories, w)
		words = append(words, []string{w.Category, w.About, w.Temporary, w.Permanent, w.Meaning})
	}
	for _, x := range reputation.Consequences() {
		l.Actions = append(l.Actions, actionWord{string(x.Action), x.Text})
		actions = append(actions, []string{string(x.Action), x.Text})
	}
	return c.Print(l, func(w io.Writer) error {
		if err := c.Table(w, []string{"CATEGORY", "ABOUT", "AFTER 4XX", "AFTER 5XX", "MEANING"}, words); err != nil {
			return err
		}
		fmt.Fprintln(w)
		return c.Table(w, []string{"ACTION", "WHAT FOLLOWS"}, actions)
	})
}

func printRules(c *cli.Call, rules *reputation.Rules, carrier string) error {
	list := slices.DeleteFunc(rules.List(), func(r reputation.Rule) bool {
		return carrier != "" && len(r.Carriers) > 0 && !slices.Contains(r.Carriers, carrier)
	})
	return c.Print(list, func(w io.Writer) error {
		var rows [][]string
		for _, r := range list {
			action := string(r.Action)
			if r.RetryAfter > 0 {
				action = strings.TrimSpace(action + " after " + human.Span(r.RetryAfter.Round(time.Second)))
			}
			rows = append(rows, []string{r.Name, string(r.Category), action, asks(r)})
		}
		return c.Table(w, []string{"RULE", "CATEGORY", "ACTION", "ASKS FOR"}, rows)
	})
}

// asks is what a rule asks for, in one line.
func asks(r reputation.Rule) string {
	var parts []string
	for _, list := range [][]string{r.Faults, r.Codes, r.Enhanced, r.Phases} {
		if len(list) > 0 {
			parts = append(parts, strings.Join(list, "|"))
		}
	}
	if r.Text != "" {
		parts = append(parts, "/"+r.Text+"/")
	}
	return strings.Join(parts, " ")
}
