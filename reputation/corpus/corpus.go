package corpus

import (
	"embed"
	"fmt"
	"io/fs"
	"path"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

//go:embed *.yaml mended/*.yaml unseen/*.yaml
var files embed.FS

// Case is a reply and what it means.
type Case struct {
	Carrier  string // "" is a server of nobody in particular
	Reply    message.Reply
	Category reputation.Category
	Ends     bool // the recipient ends here
	Hard     bool // its address is dead
	Source   string
	Place    string // "docomo.yaml:5:12"
}

// Example is the reply alone.
func (c *Case) Example() reputation.Example {
	return reputation.Example{Carrier: c.Carrier, Reply: c.Reply}
}

// Examples are the replies of cases.
func Examples(cases []Case) []reputation.Example {
	list := make([]reputation.Example, len(cases))
	for i := range cases {
		list[i] = cases[i].Example()
	}
	return list
}

type corpusFile struct {
	Carrier string      `json:"carrier"`
	Replies []replyText `json:"replies"`
}

type replyText struct {
	Reply    string              `json:"reply"`
	Phase    message.Phase       `json:"phase"`
	Fault    message.Fault       `json:"fault"`
	Category reputation.Category `json:"category"`
	Ends     bool                `json:"ends"`
	Hard     bool                `json:"hard"`
	Source   string              `json:"source"`
}

// All is the corpus that comes with the program: what the rules were written beside.
func All() ([]Case, error) { return Load(files, ".") }

// Mended is what the rules were mended for after a first judgement. See doc.go.
func Mended() ([]Case, error) { return Load(files, "mended") }

// Unseen is what no rule was mended for. See doc.go.
func Unseen() ([]Case, error) { return Load(files, "unseen") }

// Load reads the corpus files (*.yaml) of a folder.
func Load(files fs.FS, dir string) ([]Case, error) {
	names, err := fs.Glob(files, path.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list the corpus in %s: %w", dir, err)
	}
	var cases []Case
	var errs strict.Errors
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		docs, err := strict.Parse(name, data)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			list, bad := read(name, d)
			errs = append(errs, bad...)
			cases = append(cases, list...)
		}
	}
	return cases, errs.Err()
}

func read(name string, d *strict.Document) (cases []Case, errs strict.Errors) {
	var f corpusFile
	if errs = d.Decode(&f); len(errs) > 0 {
		return nil, errs
	}
	for i, t := range f.Replies {
		at := fmt.Sprintf("replies[%d]", i)
		reply, err := reputation.ParseReply(t.Reply)
		if err != nil {
			errs = append(errs, d.ErrorAt(at+".reply", err.Error()))
		}
		if t.Source == "" {
			errs = append(errs, d.ErrorAt(at, "say where the reply is from: source"))
		}
		if t.Hard && !t.Ends {
			errs = append(errs, d.ErrorAt(at+".hard", "a dead address ends the recipient: ends"))
		}
		reply.Phase, reply.Fault = t.Phase, t.Fault
		place := d.Locate(at + ".reply")
		cases = append(cases, Case{Carrier: f.Carrier, Reply: reply, Category: t.Category, Ends: t.Ends, Hard: t.Hard, Source: t.Source,
			Place: fmt.Sprintf("%s:%d:%d", name, place.Line, place.Column)})
	}
	return cases, errs
}
