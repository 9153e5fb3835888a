package reputation

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
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

// textRules keeps to what is written, and pauses by the texts of replies. It
// hears of a reply at once and acts within the second, as a single host does;
// that is faster than the automation that it is modelled on.
type textRules struct {
	plain
	rules   []textRule
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

func newTextRules() (*textRules, error) {
	t := &textRules{plain: plain{keeps: true}, seen: map[ruleAt][]time.Time{}, lanes: map[policy.Steered]*sanction{}}
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
	}
	return t, nil
}

func (t *textRules) read(m *met) reading {
	if m.reply.Code >= 400 && !m.late {
		t.react(m)
	}
	return t.plain.read(m)
}

func (t *textRules) react(m *met) {
	lane := policy.Steered{Carrier: m.carrier, Source: m.source}
	text := m.reply.String()
	for i := range t.rules {
		r := &t.rules[i]
		if r.Carrier != "" && r.Carrier != m.carrier || !r.match.MatchString(text) {
			continue
		}
		k := ruleAt{i, lane}
		hour := slices.DeleteFunc(t.seen[k], func(at time.Time) bool { return m.at.Sub(at) >= time.Hour })
		if hour = append(hour, m.at); len(hour) >= r.PerHour {
			t.sanction(lane, r, m.at)
			hour = hour[:0]
		}
		t.seen[k] = hour
		// As there, every rule that matches counts: the specific ones of a carrier
		// and that for all.
	}
}

func (t *textRules) sanction(lane policy.Steered, r *textRule, at time.Time) {
	s := t.lanes[lane]
	if s == nil {
		s = &sanction{}
		t.lanes[lane] = s
	}
	t.changed = true
	if r.Suspend > 0 {
		if until := at.Add(r.Suspend.D()); until.After(s.rests) {
			s.rests = until
		}
	}
	if r.Rate != nil {
		s.rate, s.rateUntil = r.Rate, at.Add(r.For.D())
	}
	if r.Connections > 0 {
		s.connections, s.connectionsUntil = r.Connections, at.Add(r.For.D())
	}
}

func (t *textRules) second(now time.Time) (*policy.Steering, bool) {
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
	x := &policy.Steering{Lanes: map[policy.Steered]*policy.Course{}}
	for _, lane := range slices.SortedFunc(maps.Keys(t.lanes), func(a, b policy.Steered) int {
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Source, b.Source))
	}) {
		s := t.lanes[lane]
		c := &policy.Course{State: policy.StateSlowed, Rate: s.rate, Connections: s.connections}
		if now.Before(s.rests) {
			c.State, c.Rests = policy.StateResting, policy.At(s.rests.Add(time.Second-1))
		}
		if c.Rate != nil || c.Connections > 0 || !c.Rests.IsZero() {
			x.Lanes[lane] = c
		}
	}
	return x, true
}
