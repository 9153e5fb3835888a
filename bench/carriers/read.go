package carriers

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
)

//go:embed profiles/*.yaml
var shipped embed.FS

// The words of Profile.StartTLS and Profile.Dead.
const (
	startTLSNone     = "none"
	startTLSOffered  = "offered"
	startTLSRequired = "required"

	deadRefused = "refused"
	deadSilent  = "silent"
)

// Shipped are the profiles that come with the suite, by name.
func Shipped() ([]*Profile, error) {
	files, err := fs.Glob(shipped, "profiles/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the shipped profiles: %w", err)
	}
	var all []*Profile
	for _, f := range files {
		text, err := shipped.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read a shipped profile: %w", err)
		}
		ps, err := Parse(path.Base(f), text)
		if err != nil {
			return nil, fmt.Errorf("read the shipped profile: %w", err)
		}
		all = append(all, ps...)
	}
	return all, nil
}

// Named picks shipped profiles, in the order asked for.
func Named(names ...string) ([]*Profile, error) {
	all, err := Shipped()
	if err != nil {
		return nil, err
	}
	var picked []*Profile
	for _, name := range names {
		i := slices.IndexFunc(all, func(p *Profile) bool { return p.Name == name })
		if i < 0 {
			var known []string
			for _, p := range all {
				known = append(known, p.Name)
			}
			return nil, fmt.Errorf("no carrier profile is named %q; there are %s", name, strings.Join(known, ", "))
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

// Parse reads the profiles of one file; name is for errors, which are
// strict.Errors with line and column.
func Parse(name string, text []byte) ([]*Profile, error) {
	docs, err := strict.Parse(name, text)
	if err != nil {
		return nil, err
	}
	var profiles []*Profile
	var errs strict.Errors
	for _, d := range docs {
		p := &Profile{}
		if bad := d.Decode(p); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		v := &validation{p: p, bad: func(path, reason string) { errs = append(errs, d.ErrorAt(path, reason)) }}
		v.check()
		profiles = append(profiles, p)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return profiles, nil
}

// validation is one profile being looked at.
type validation struct {
	p   *Profile
	bad func(path, reason string)
}

// Bounds of what a profile may ask for.
const (
	maxHosts     = 16
	maxAddresses = 16
	maxList      = 1000
)

func (v *validation) check() {
	p := v.p
	if n := len(p.Name); n == 0 || n > 64 || strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		v.bad("name", "want 1 to 64 of a-z, 0-9, '.', '_' and '-'")
	}
	if !strings.Contains(p.Description, "model") {
		v.bad("description", "say in words what is modelled, and that it is a model and not a measurement")
	}
	if len(p.BasedOn) == 0 {
		v.bad("based_on", "name where the numbers and texts come from")
	}
	v.names()
	v.word("dead", p.Dead, deadRefused, deadSilent)
	v.word("starttls", p.StartTLS, startTLSNone, startTLSOffered, startTLSRequired)
	for key, l := range map[string]*Latency{"connect": &p.Latency.Connect, "hello": &p.Latency.Hello, "mail": &p.Latency.Mail,
		"rcpt": &p.Latency.Rcpt, "data": &p.Latency.Data, "dot": &p.Latency.Dot} {
		v.latency("latency."+key, l)
	}
	v.limits("limits", &p.Limits)
	v.limits("per_source", &p.PerSource)
	v.count("messages_per_connection", p.MessagesPerConnection)
	v.count("recipients_per_connection", p.RecipientsPerConnection)
	v.count("recipients_per_transaction", p.RecipientsPerTransaction)
	v.over()
	for i, c := range p.Chance {
		at := "chance[" + strconv.Itoa(i) + "]"
		v.required(at+".phase", c.Phase, phaseConnect, phaseMail, phaseRcpt, phaseData, phaseDot)
		v.share(at+".share", c.Share)
		v.say(at, &c.Say)
	}
	v.fates()
	if g := p.Greylist; g != nil {
		v.share("greylist.share", g.Share)
		v.positive("greylist.wait", g.Wait)
		v.reply("greylist.reply", g.Reply, true)
	}
	if t := p.TopOfHour; t != nil {
		v.positive("top_of_hour.for", t.For)
		v.rate("top_of_hour.rate", &t.Rate)
		v.reply("top_of_hour.reply", t.Reply, false)
	}
	v.punish()
}

func (v *validation) names() {
	p := v.p
	if len(p.Domains) == 0 || len(p.Domains) > maxList {
		v.bad("domains", "want 1 to 1000 recipient domains")
	}
	for i, d := range p.Domains {
		v.testName("domains["+strconv.Itoa(i)+"]", strings.TrimPrefix(d, "*."))
	}
	if len(p.MX) == 0 || len(p.MX) > maxHosts {
		v.bad("mx", "want 1 to 16 hosts")
	}
	for i, h := range p.MX {
		at := "mx[" + strconv.Itoa(i) + "]"
		v.testName(at+".name", h.Name)
		if h.Preference < 0 || h.Preference > 65535 {
			v.bad(at+".preference", "a preference is 0 to 65535")
		}
		if h.Addresses < 0 || h.Addresses > maxAddresses {
			v.bad(at+".addresses", "a host has 1 to 16 addresses")
		}
	}
	v.line("banner", p.Banner)
	for i, e := range p.Extensions {
		v.line("extensions["+strconv.Itoa(i)+"]", e)
		if e == "" || strings.EqualFold(e, "STARTTLS") || strings.EqualFold(e, "CHUNKING") {
			v.bad("extensions["+strconv.Itoa(i)+"]", "want a word of EHLO; STARTTLS and CHUNKING have keys of their own")
		}
	}
}

// testName keeps simulated carriers out of the real name space (RFC 6761 6.2).
func (v *validation) testName(path, name string) {
	if err := policy.CheckDomain(name); err != nil {
		v.bad(path, err.Error())
	} else if !strings.HasSuffix(name, ".test") {
		v.bad(path, "simulated names end in .test, so that no mail for them can ever leave for the real ones")
	}
}

func (v *validation) line(path, s string) {
	if len(s) > 500 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		v.bad(path, "want one line of at most 500 bytes")
	}
}

func (v *validation) latency(path string, l *Latency) {
	l.check(func(key, reason string) {
		if key != "" {
			key = "." + key
		}
		v.bad(path+key, reason)
	})
}

func (v *validation) limits(path string, l *policy.Limits) {
	if l.Rate != nil {
		v.rate(path+".rate", l.Rate)
	}
	if l.ConnectionRate != nil {
		v.rate(path+".connection_rate", l.ConnectionRate)
	}
	v.count(path+".connections", l.Connections)
	if l.PerDay < 0 || l.PerDay > 1e9 {
		v.bad(path+".per_day", "want 1 to 1000000000, or leave it out")
	}
}

func (v *validation) rate(path string, r *policy.Rate) {
	if r.N < 1 || r.Per <= 0 || r.Per/time.Duration(r.N) < time.Microsecond || r.BurstOrDefault() > 1e6 {
		v.bad(path, "want at least one and at most 1000000/s, with a burst of at most 1000000")
	}
}

func (v *validation) count(path string, n int) {
	if n < 0 || n > 1e6 {
		v.bad(path, "want 1 to 1000000, or leave it out")
	}
}

func (v *validation) share(path string, f float64) {
	if !(f >= 0 && f <= 1) {
		v.bad(path, "a share is 0 to 1")
	}
}

func (v *validation) positive(path string, d policy.Duration) {
	if d <= 0 || d.D() > 30*24*time.Hour {
		v.bad(path, "want a span of more than nothing and at most 30d")
	}
}

// word checks a word that may be left out, required one that may not.
func (v *validation) word(path, s string, words ...string) {
	if s != "" {
		v.required(path, s, words...)
	}
}

func (v *validation) required(path, s string, words ...string) {
	if !slices.Contains(words, s) {
		v.bad(path, fmt.Sprintf("%.40q is none of %s", s, strings.Join(words, ", ")))
	}
}

// reply checks a reply that refuses.
func (v *validation) reply(path, s string, optional bool) {
	if s == "" && optional {
		return
	}
	v.line(path, s)
	if len(s) < 4 || s[0] != '4' && s[0] != '5' || s[1] < '0' || s[1] > '5' || s[2] < '0' || s[2] > '9' || s[3] != ' ' {
		v.bad(path, "want a reply that refuses, as in \"421 4.7.0 Try again later\"")
	}
}

func (v *validation) say(path string, s *Say) {
	switch {
	case s.Reset && s.Drop, s.Reply != "" && (s.Reset || s.Drop):
		v.bad(path, "give one of reply, reset and drop")
	case !s.Reset && !s.Drop:
		v.reply(path+".reply", s.Reply, false)
	}
}

func (v *validation) over() {
	o := &v.p.Over
	for key, s := range map[string]*Say{"connections": o.Connections, "connection_rate": o.ConnectionRate, "rate": o.Rate, "per_day": o.PerDay,
		"messages_per_connection": o.MessagesPerConnection, "recipients_per_connection": o.RecipientsPerConnection,
		"recipients_per_transaction": o.RecipientsPerTransaction, "session_time": o.SessionTime, "tls": o.TLS} {
		if s != nil {
			v.say("over."+key, s)
		}
	}
}

func (v *validation) fates() {
	sum := 0.0
	for i, f := range v.p.Recipients {
		at := "recipients[" + strconv.Itoa(i) + "]"
		v.required(at+".kind", f.Kind, KindUnknown, KindFull, KindFiltered, KindDropped, KindBounce, KindComplaint)
		v.share(at+".share", f.Share)
		sum += f.Share
		v.word(at+".phase", f.Phase, phaseRcpt, phaseDot)
		switch f.Kind {
		case KindUnknown, KindFull, KindFiltered:
			v.reply(at+".reply", f.Reply, false)
		default:
			v.line(at+".reply", f.Reply)
			if f.Phase != "" {
				v.bad(at+".phase", "what is taken is not refused in any phase")
			}
		}
		if f.Status != "" && (f.Kind != KindBounce || !isStatus(f.Status)) {
			v.bad(at+".status", "a bounce has a status as in 5.1.1")
		}
		v.latency(at+".after", &f.After)
	}
	if sum > 1 {
		v.bad("recipients", "the shares add up to more than 1")
	}
}

// isStatus reports whether s is "5.x.y" or "4.x.y" (RFC 3463 2).
func isStatus(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != "4" && parts[0] != "5" {
		return false
	}
	for _, p := range parts[1:] {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 999 || strconv.Itoa(n) != p {
			return false
		}
	}
	return true
}

func (v *validation) punish() {
	p := v.p.Punish
	if p == nil {
		return
	}
	v.positive("punish.forgive", p.Forgive)
	if s := p.Slow; s != nil {
		v.strikes("punish.slow.strikes", s.Strikes)
		v.positive("punish.slow.delay", s.Delay)
	}
	if s := p.Defer; s != nil {
		v.strikes("punish.defer.strikes", s.Strikes)
		v.say("punish.defer", &s.Say)
	}
	if b := p.Block; b != nil {
		v.strikes("punish.block.strikes", b.Strikes)
		v.positive("punish.block.for", b.For)
		v.positive("punish.block.at_most", b.AtMost)
		v.positive("punish.block.forget", b.Forget)
		if b.AtMost < b.For {
			v.bad("punish.block.at_most", "the longest block is not shorter than the first")
		}
		v.say("punish.block", &b.Say)
	}
	if u := p.Unknown; u != nil {
		v.share("punish.unknown.share", u.Share)
		if u.Of < 1 || u.Of > 100_000 {
			v.bad("punish.unknown.of", "want 1 to 100000 recipients")
		}
	}
}

func (v *validation) strikes(path string, n int) {
	if n < 1 || n > maxStrikes {
		v.bad(path, "want 1 to 1000000 strikes")
	}
}
