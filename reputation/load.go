package reputation

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
)

//go:embed rules/*.yaml
var shippedFiles embed.FS

// shipped is read once, by who asks first.
var shipped = sync.OnceValue(func() *Rules {
	rs, err := Load(shippedFiles, "rules", nil)
	if err != nil {
		panic("BUG: the shipped rules are not readable: " + err.Error())
	}
	return rs
})

// Shipped is the rules that come with the program. That each of them is of use is
// not looked at again: TestCorpus has loaded the same bytes with the corpus.
func Shipped() *Rules { return shipped() }

// ruleFile is a file of rules as it is written. See doc.go.
type ruleFile struct {
	Carriers []string `json:"carriers"`
	Sources  []string `json:"sources"`
	// Words are texts that several rules share: "{name}" in a rule's text.
	Words map[string]string `json:"words"`
	Rules []ruleText        `json:"rules"`
}

type ruleText struct {
	Name       string          `json:"name"`
	Carriers   []string        `json:"carriers"`
	Codes      []scalar        `json:"codes"`
	Enhanced   []scalar        `json:"enhanced"`
	Phases     []string        `json:"phases"`
	Faults     []string        `json:"faults"`
	Text       string          `json:"text"`
	Category   Category        `json:"category"`
	About      About           `json:"about"`
	Action     Action          `json:"action"`
	Final      *bool           `json:"final"`
	RetryAfter policy.Duration `json:"retry_after"`
	Why        string          `json:"why"`
}

// scalar is text that needs no quotes where it looks like a number.
type scalar string

// UnmarshalText takes the text as it is written.
func (s *scalar) UnmarshalText(b []byte) error {
	*s = scalar(b)
	return nil
}

func texts(list []scalar) []string {
	var all []string
	for _, s := range list {
		all = append(all, string(s))
	}
	return all
}

// Load reads the rule files (*.yaml) of a folder. The rules of files that name
// carriers come before those of files that name none, then by file name, then as
// written. With examples, rules that are of no use among them are refused.
// Errors have file, line and column.
func Load(files fs.FS, dir string, examples []Example) (*Rules, error) {
	names, err := fs.Glob(files, path.Join(dir, "*.yaml"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("no rule files (*.yaml) in %s: %w", dir, errors.Join(err, fs.ErrNotExist))
	}
	var own, general []*rule
	var flaws strict.Errors
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		list, isGeneral, err := readRules(name, data)
		var bad strict.Errors
		switch {
		case errors.As(err, &bad):
			flaws = append(flaws, bad...)
		case err != nil:
			return nil, err
		case isGeneral:
			general = append(general, list...)
		default:
			own = append(own, list...)
		}
	}
	if err := flaws.Err(); err != nil {
		return nil, err
	}
	all := append(own, general...)
	if len(all) > maxRules {
		return nil, fmt.Errorf("%d rules are too many: at most %d", len(all), maxRules)
	}
	rs := newRules(all)
	if examples != nil {
		var all []error
		for _, u := range rs.Useless(examples) {
			all = append(all, fmt.Errorf("rule %s", u))
		}
		if len(all) > 0 {
			return nil, errors.Join(all...)
		}
	}
	return rs, nil
}

// ruleName is what a rule or a file may be called.
func ruleName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// readRules reads one file. general: it is for all carriers.
func readRules(file string, data []byte) (list []*rule, general bool, err error) {
	docs, err := strict.Parse(file, data)
	if err != nil {
		return nil, false, err
	}
	if len(docs) != 1 {
		return nil, false, strict.Errors{{File: file, Position: strict.Position{Line: 1, Column: 1}, Reason: fmt.Sprintf("%d documents: a rule file is one", len(docs))}}
	}
	d := docs[0]
	var f ruleFile
	if errs := d.Decode(&f); len(errs) > 0 {
		return nil, false, errs
	}
	var errs strict.Errors
	bad := func(path, format string, args ...any) {
		errs = append(errs, d.ErrorAt(path, fmt.Sprintf(format, args...)))
	}
	base := strings.TrimSuffix(path.Base(file), ".yaml")
	if !ruleName(base) {
		bad("", "a rule file is called as its carrier: small letters, digits and hyphens")
	}
	seen := map[string]bool{}
	for i, t := range f.Rules {
		at := element("rules", i)
		if !ruleName(t.Name) {
			bad(at+".name", "%q is no name: small letters, digits and hyphens", cut(t.Name))
		}
		if seen[t.Name] {
			bad(at+".name", "%q is there already", cut(t.Name))
		}
		seen[t.Name] = true
		for j, c := range t.Carriers {
			if !slices.Contains(f.Carriers, c) {
				bad(element(at+".carriers", j), "%q is not one of the file's carriers", cut(c))
			}
		}
		for word, text := range f.Words {
			t.Text = strings.ReplaceAll(t.Text, "{"+word+"}", text)
		}
		x, flaws := t.rule(base, f.Carriers).ready()
		for _, w := range flaws {
			bad(strings.TrimSuffix(at+"."+w.path, "."), "%s", w.reason)
		}
		list = append(list, x)
	}
	return list, len(f.Carriers) == 0, errs.Err()
}

func (t ruleText) rule(file string, carriers []string) Rule {
	if len(t.Carriers) > 0 {
		carriers = t.Carriers
	}
	return Rule{Name: file + "/" + t.Name, Carriers: carriers, Codes: texts(t.Codes), Enhanced: texts(t.Enhanced), Phases: t.Phases, Faults: t.Faults,
		Text: t.Text, Category: t.Category, About: t.About, Action: t.Action, Final: t.Final, RetryAfter: t.RetryAfter.D(), Why: t.Why}
}
