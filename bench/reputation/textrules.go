package reputation

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"time"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
)

//go:embed rules.yaml
var rulesText []byte

// textRule is one line of rules.yaml.
type textRule struct {
	Carrier     string          `json:"carrier,omitempty"` // empty: all
	Text        string          `json:"text"`
	PerHour     int             `json:"per_hour"`
	Suspend     policy.Duration `json:"suspend,omitempty"`
	Rate        *policy.Rate    `json:"rate,omitempty"`
	Connections int             `json:"connections,omitempty"`
	For         policy.Duration `json:"for,omitempty"` // of rate and connections

	match *regexp.Regexp
}

// Texts are the rules at work: they hear what carriers say to sources, and say
// what the sources shall do there. They hear of a reply at once and act as soon
// as they are asked, as a single host does; that is faster than the automation
// that they are modelled on. Methods are called one at a time.
type Texts struct {
	rules   []textRule
	pace    int
	seen    map[ruleAt][]time.Time
	lanes   map[policy.Steered]*sanction
	changed bool
}

type ruleAt struct {
	rule int
	lane policy.Steered
}

// sanction is what the rules have brought upon a source at a carrier.
type sanction struct {
	rests            time.Time
	rate             *policy.Rate
	rateUntil        time.Time
	connections      int
	connectionsUntil time.Time
}

// NewTexts reads the rules. In a world in which everything is pace times as quick,
// so are their times and rates: at 60 an hour of theirs is a minute.
func NewTexts(pace int) (*Texts, error) {
	t := &Texts{pace: pace, seen: map[ruleAt][]time.Time{}, lanes: map[policy.Steered]*sanction{}}
	docs, err := strict.Parse("rules.yaml", rulesText)
	if err != nil {
		return nil, err
	}
	var table struct {
		Rules []textRule `json:"rules"`
	}
	for _, d := range docs {
		if bad := d.Decode(&table); len(bad) > 0 {
			return nil, bad
		}
	}
	t.rules = table.Rules
	for i := range t.rules {
		r := &t.rules[i]
		var err error
		if r.match, err = regexp.Compile(r.Text); err != nil {
			return nil, fmt.Errorf("rules.yaml: rule %d: %w", i+1, err)
		}
		if r.PerHour < 1 || r.Suspend == 0 && r.For == 0 {
			return nil, fmt.Errorf("rules.yaml: rule %d: want per_hour, and suspend or for", i+1)
		}
		if r.Rate != nil {
			quicker := *r.Rate
			quicker.N *= int64(pace)
			r.Rate = &quicker
		}
	}
	return t, nil
}

// lasts is a time of the rules in this world.
func (t *Texts) lasts(d time.Duration) time.Duration { return d / time.Duration(t.pace) }

// Hear is told what a carrier said to a source: code, enhanced code and text.
func (t *Texts) Hear(at time.Time, lane policy.Steered, text string) {
	for i := range t.rules {
		r := &t.rules[i]
		if r.Carrier != "" && r.Carrier != lane.Carrier || !r.match.MatchString(text) {
			continue
		}
		k := ruleAt{i, lane}
		hour := slices.DeleteFunc(t.seen[k], func(seen time.Time) bool { return at.Sub(seen) >= t.lasts(time.Hour) })
		if hour = append(hour, at); len(hour) >= r.PerHour {
			t.sanction(lane, r, at)
			hour = hour[:0]
		}
		t.seen[k] = hour
		// As there, every rule that matches counts: the specific ones of a carrier
		// and that for all.
	}
}

func (t *Texts) sanction(lane policy.Steered, r *textRule, at time.Time) {
	s := t.lanes[lane]
	if s == nil {
		s = &sanction{}
		t.lanes[lane] = s
	}
	t.changed = true
	if r.Suspend > 0 {
		if until := at.Add(t.lasts(r.Suspend.D())); until.After(s.rests) {
			s.rests = until
		}
	}
	if r.Rate != nil {
		s.rate, s.rateUntil = r.Rate, at.Add(t.lasts(r.For.D()))
	}
	if r.Connections > 0 {
		s.connections, s.connectionsUntil = r.Connections, at.Add(t.lasts(r.For.D()))
	}
}

// Courses are what sources shall do at carriers from now on, all of them, when
// that has changed since it was asked for. A rest ends by itself.
func (t *Texts) Courses(now time.Time) (courses map[policy.Steered]*policy.Course, changed bool) {
	for _, s := range t.lanes {
		if s.rate != nil && !now.Before(s.rateUntil) {
			s.rate, t.changed = nil, true
		}
		if s.connections > 0 && !now.Before(s.connectionsUntil) {
			s.connections, t.changed = 0, true
		}
	}
	if !t.changed {
		return nil, false
	}
	t.changed = false
	courses = map[policy.Steered]*policy.Course{}
	for lane, s := range t.lanes {
		c := &policy.Course{State: policy.StateSlowed, Rate: s.rate, Connections: s.connections}
		if now.Before(s.rests) {
			c.State, c.Rests = policy.StateResting, policy.At(s.rests.Add(time.Second-1))
		}
		if c.Rate != nil || c.Connections > 0 || !c.Rests.IsZero() {
			courses[lane] = c
		}
	}
	return courses, true
}

// textRules keeps to what is written, and pauses by the texts of replies.
type textRules struct {
	plain
	texts *Texts
}

func newTextRules(pace int) (*textRules, error) {
	t, err := NewTexts(pace)
	return &textRules{plain{keeps: true}, t}, err
}

func (t *textRules) read(m *met) reading {
	if m.reply.Code >= 400 && !m.late {
		t.texts.Hear(m.at, policy.Steered{Carrier: m.carrier, Source: m.source}, m.reply.String())
	}
	return t.plain.read(m)
}

func (t *textRules) second(now time.Time) (*policy.Steering, bool) {
	courses, changed := t.texts.Courses(now)
	if !changed {
		return nil, false
	}
	return &policy.Steering{Lanes: courses}, true
}
