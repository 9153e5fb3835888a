package policy

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Defaults of Reputation, Steer, Guard, WarmUp and Webhook.
const (
	DefaultDecrease       = 50 // percent, where the rate was measured on few messages
	DefaultIncrease       = 5  // percent
	DefaultSteerEvery     = 30 * time.Second
	DefaultRest           = 30 * time.Minute
	MaxRest               = 24 * time.Hour
	DefaultGuardSample    = 1000
	DefaultUnknownWarn    = 2   // percent
	DefaultUnknownPause   = 5   // percent
	DefaultComplaintPause = 0.3 // percent: Gmail's bulk sender guidelines name it as what must never be reached
	DefaultAuthPause      = 20  // percent
	DefaultGuardHold      = time.Hour
	DefaultMaxBatch       = 100
	DefaultMaxWait        = time.Second
	DefaultGiveUpAfter    = 24 * time.Hour
)

// DefaultWarmUpDays are the messages of the days of a WarmUp that sets none.
var DefaultWarmUpDays = []int64{50, 100, 200, 400, 800, 1500, 3000, 6000, 12_000, 25_000, 50_000, 100_000, 200_000, 400_000}

// fillReputation sets the fields that were left out.
func (s *Set) fillReputation() {
	r := s.Reputation
	orDefault(&r.Mode, ModeOn)
	orDefault(&r.Catalogue, CatalogueShipped)
	r.Steering, r.Guard = r.Steering.filled(), r.Guard.filled()
	for _, c := range s.Carriers {
		if c.Steering != nil {
			c.Steering = c.Steering.filled()
		}
		orDefault(&c.OddLocalParts, OddRefuse)
	}
	for _, t := range s.Tenants {
		if t.Guard != nil {
			t.Guard = t.Guard.filled()
		}
	}
	for _, w := range s.WarmUps {
		if len(w.Days) == 0 {
			w.Days = slices.Clone(DefaultWarmUpDays)
		}
	}
	for _, w := range s.Webhooks {
		orDefault(&w.MaxBatch, DefaultMaxBatch)
		orDefault(&w.MaxWait, Duration(DefaultMaxWait))
		orDefault(&w.GiveUpAfter, Duration(DefaultGiveUpAfter))
		w.Headers = maps.Clone(w.Headers)
	}
}

func (x *Steer) filled() *Steer {
	c := Steer{}
	if x != nil {
		c = *x
	}
	orDefault(&c.Mode, ModeOn)
	if c.Floor == nil {
		c.Floor = &Rate{N: 1, Per: time.Minute}
	}
	orDefault(&c.Increase, DefaultIncrease)
	orDefault(&c.Every, Duration(DefaultSteerEvery))
	orDefault(&c.Rest, Duration(DefaultRest))
	return &c
}

func (g *Guard) filled() *Guard {
	c := Guard{}
	if g != nil {
		c = *g
	}
	orDefault(&c.Mode, ModeOn)
	orDefault(&c.Sample, DefaultGuardSample)
	orDefault(&c.UnknownWarn, DefaultUnknownWarn)
	orDefault(&c.UnknownPause, DefaultUnknownPause)
	orDefault(&c.ComplaintPause, DefaultComplaintPause)
	orDefault(&c.AuthPause, DefaultAuthPause)
	orDefault(&c.Hold, Duration(DefaultGuardHold))
	return &c
}

// SteerOf are the settings of the controller of rates at a carrier.
func (s *Set) SteerOf(carrier string) *Steer {
	if c := s.Carriers[carrier]; c != nil && c.Steering != nil {
		return c.Steering
	}
	return s.Reputation.Steering
}

// Steers reports whether anything follows from what a carrier says of sources: the
// modes of all and of the carrier are on.
func (s *Set) Steers(carrier string) bool {
	return s.Reputation.Mode == ModeOn && s.SteerOf(carrier).Mode == ModeOn
}

// GuardOf are the settings of the guard over a tenant.
func (s *Set) GuardOf(tenant string) *Guard {
	if t := s.Tenants[tenant]; t != nil && t.Guard != nil {
		return t.Guard
	}
	return s.Reputation.Guard
}

// Suppresses reports whether something of this kind (SuppressBounces, …) feeds
// the tenant's suppression list.
func (t *Tenant) Suppresses(kind string) bool {
	return t == nil || len(t.Suppress) == 0 || slices.Contains(t.Suppress, kind)
}

const maxPattern = 1000 // bytes of a regular expression, or an example

var (
	codePattern     = regexp.MustCompile(`^[2-5]([0-9][0-9x]|xx)$`)
	enhancedPattern = regexp.MustCompile(`^[245x]\.([0-9]{1,3}|x)\.([0-9]{1,3}|x)$`)
	rulePhases      = []string{"connect", "banner", "ehlo", "starttls", "tls", "auth", "mail", "rcpt", "data", "dot", "rset", "quit"}
	ruleFaults      = []string{"dns", "refused", "reset", "closed", "timeout", "network", "tls", "protocol"}
	webhookEvents   = []string{"accepted", "delivered", "deferred", "bounced", "expired", "cancelled", "held", "released", "suppressed", "complained", "late-bounce", "unsubscribed"}
)

func (v *validation) checkReplyRule(r *ReplyRule) {
	refers(v, "spec.carrier", KindCarrier, r.Carrier, v.set.Carriers)
	for _, l := range [...]struct {
		path string
		list []string
		ok   func(string) bool
		want string
	}{
		{"spec.codes", r.Codes, codePattern.MatchString, `a reply code, as 550, "55x" or "5xx"`},
		{"spec.enhanced", r.Enhanced, enhancedPattern.MatchString, `an enhanced status code, as "5.7.1", "5.7.x" or "x.2.2"`},
		{"spec.phases", r.Phases, oneOf(rulePhases), "one of " + strings.Join(rulePhases, ", ")},
		{"spec.faults", r.Faults, oneOf(ruleFaults), "one of " + strings.Join(ruleFaults, ", ")},
		{"spec.examples", r.Examples, func(s string) bool { return s != "" && len(s) <= maxPattern }, "a reply, as \"550 5.1.1 No such user\", of at most 1000 bytes"},
	} {
		if len(l.list) > 100 {
			v.bad(l.path, "%d entries are too many: at most 100", len(l.list))
		}
		for i, s := range l.list {
			if !l.ok(s) {
				v.bad(at(l.path, i), "%s is not %s", quote(s), l.want)
			}
		}
	}
	if len(r.Text) > maxPattern {
		v.bad("spec.text", "%d bytes are too many: at most %d", len(r.Text), maxPattern)
	} else if _, err := regexp.Compile(r.Text); err != nil {
		v.bad("spec.text", "not a regular expression: %v", err)
	}
	if r.Category == "" {
		v.bad("spec.category", `say what the reply means; "hikyaku classify --categories" lists the words`)
	}
	v.span("spec.retry_after", r.RetryAfter, Duration(time.Second), Duration(7*24*time.Hour))
	if len(r.Examples) == 0 {
		v.bad("spec.examples", "give at least one reply that the rule is for, so that it can be seen that it matches")
	}
}

func oneOf(words []string) func(string) bool {
	return func(s string) bool { return slices.Contains(words, s) }
}

func (v *validation) checkWarmUp(w *WarmUp) {
	if w.Source == "" {
		v.bad("spec.source", "give the name of the source that is new")
	}
	refers(v, "spec.source", KindSource, w.Source, v.set.Sources)
	v.claim("spec.source", "source's warm-up", w.Source)
	v.bounded("spec.carriers", len(w.Carriers))
	for i, c := range w.Carriers {
		refers(v, at("spec.carriers", i), KindCarrier, c, v.set.Carriers)
	}
	if len(w.Days) > 366 {
		v.bad("spec.days", "%d days are too many: at most 366", len(w.Days))
	}
	last := int64(0)
	for i, n := range w.Days {
		if n < 1 || n > maxPerDay {
			v.bad(at("spec.days", i), "%d is out of range: want 1 to %d", n, int64(maxPerDay))
		} else if n < last {
			v.bad(at("spec.days", i), "%d is less than the day before: a warm-up rises; bad signals hold it back by themselves", n)
		}
		last = n
	}
}

func (v *validation) checkWebhook(w *Webhook) {
	refers(v, "spec.tenant", KindTenant, w.Tenant, v.set.Tenants)
	v.bounded("spec.streams", len(w.Streams))
	for i, e := range w.Events {
		v.word(at("spec.events", i), e, webhookEvents)
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Fragment != "" || len(w.URL) > 2000:
		v.bad("spec.url", "%s is no URL to post to: want one as in https://hooks.example.com/mail", quote(w.URL))
	case u.User != nil:
		v.bad("spec.url", "a URL with a password would be shown in listings; use authorization or secret")
	case u.Scheme != "https" && !(u.Scheme == "http" && w.AllowHTTP):
		v.bad("spec.url", "want https; set allow_http: true to send events in the clear")
	}
	if w.Secret.IsZero() && !w.FormerSecret.IsZero() {
		v.bad("spec.former_secret", "there is no secret that it was before")
	}
	if len(w.Headers) > 20 {
		v.bad("spec.headers", "%d are too many: at most 20", len(w.Headers))
	}
	if text := w.Authorization.Reveal(); strings.ContainsAny(text, "\r\n\x00") || len(text) > 4096 {
		v.bad("spec.authorization", "want a value of one line, at most 4096 bytes")
	}
	for k, val := range w.Headers {
		if slices.ContainsFunc(provesWho, func(h string) bool { return strings.EqualFold(h, k) }) {
			v.bad("spec.headers", "%s would be shown in listings; give it as authorization", quote(k))
		}
		if !headerName(k) || strings.ContainsAny(val, "\r\n\x00") || len(val) > 4096 {
			v.bad("spec.headers", "%s is no header field with a value of one line", quote(k))
		}
	}
	v.bounded("spec.allow_networks", len(w.AllowNetworks))
	for i, n := range w.AllowNetworks {
		v.network(at("spec.allow_networks", i), n)
	}
	number(v, "spec.max_batch", w.MaxBatch, 1, 1000)
	v.span("spec.max_wait", w.MaxWait, Duration(10*time.Millisecond), Duration(time.Minute))
	v.span("spec.give_up_after", w.GiveUpAfter, Duration(time.Minute), Duration(7*24*time.Hour))
}

// provesWho are header fields that hold nothing but a secret.
var provesWho = []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "Api-Key", "X-Auth-Token"}

// headerName is a token (RFC 9110 5.6.2).
func headerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 100
}

func (v *validation) checkReputation(r *Reputation) {
	v.word("spec.mode", r.Mode, modeWords)
	v.word("spec.catalogue", r.Catalogue, catalogueWords)
	v.steer("spec.steering", r.Steering)
	v.guard("spec.guard", r.Guard)
	v.bounded("spec.blocklists", len(r.Blocklists))
	for i, z := range r.Blocklists {
		if err := CheckDomain(z); err != nil {
			v.bad(at("spec.blocklists", i), "%s is no DNS zone: %v", quote(z), err)
		}
	}
}

func (v *validation) steer(path string, x *Steer) {
	if x == nil {
		return
	}
	v.word(path+".mode", x.Mode, modeWords)
	v.rate(path+".floor", x.Floor)
	v.rate(path+".ceiling", x.Ceiling)
	v.rate(path+".start", x.Start)
	number(v, path+".decrease", x.Decrease, 10, 95)
	number(v, path+".increase", x.Increase, 1, 100)
	v.span(path+".every", x.Every, Duration(time.Second), Duration(time.Hour))
	v.span(path+".rest", x.Rest, Duration(time.Minute), Duration(MaxRest))
	if x.Floor != nil && x.Floor.N == 0 {
		v.bad(path+".floor", "a floor of nothing would stop the source for good: nobody would ever see that it may go on")
	}
	if x.Start != nil && x.Start.N == 0 {
		v.bad(path+".start", "a start of nothing would never get further")
	}
	if x.Floor != nil && x.Ceiling != nil && slower(x.Ceiling, x.Floor) {
		v.bad(path+".ceiling", "the ceiling is below the floor")
	}
}

func (v *validation) guard(path string, g *Guard) {
	if g == nil {
		return
	}
	v.word(path+".mode", g.Mode, modeWords)
	number(v, path+".sample", g.Sample, 20, 1_000_000)
	for _, p := range [...]struct {
		name string
		part float64
	}{{"unknown_warn", g.UnknownWarn}, {"unknown_pause", g.UnknownPause}, {"complaint_pause", g.ComplaintPause}, {"auth_pause", g.AuthPause}} {
		if !(p.part >= 0 && p.part <= 100) {
			v.bad(path+"."+p.name, "%v is no percentage: want 0 to 100", p.part)
		}
	}
	if g.UnknownWarn > g.UnknownPause {
		v.bad(path+".unknown_warn", "the warning comes after the pause")
	}
	v.span(path+".hold", g.Hold, Duration(time.Minute), Duration(30*24*time.Hour))
}

// checkTenantFeedback checks what of a tenant is about mail that comes back.
func (v *validation) checkTenantFeedback(t *Tenant) {
	if t.ReturnPath != "" {
		if err := CheckDomain(t.ReturnPath); err != nil {
			v.bad("spec.return_path", "%s is no domain: %v", quote(t.ReturnPath), err)
		}
	}
	if t.UnsubscribeURL != "" {
		if u, err := url.Parse(t.UnsubscribeURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(t.UnsubscribeURL) > 500 {
			v.bad("spec.unsubscribe_url", "%s is no https address without query: RFC 8058 asks for https", quote(t.UnsubscribeURL))
		}
	}
	for i, s := range t.Suppress {
		v.word(at("spec.suppress", i), s, suppressWords)
		if s == SuppressNone && len(t.Suppress) > 1 {
			v.bad("spec.suppress", "none stands alone")
		}
	}
	v.guard("spec.guard", t.Guard)
}
