package policy

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func (v *validation) checkTenant(t *Tenant) {
	v.bounded("spec.networks", len(t.Networks))
	for i, n := range t.Networks {
		v.network(at("spec.networks", i), n)
		v.claim(at("spec.networks", i), "network", n.String())
	}
	v.bounded("spec.smtp_users", len(t.SMTPUsers))
	for i, u := range t.SMTPUsers {
		v.checkSMTPUser(at("spec.smtp_users", i), u)
	}
	v.bounded("spec.api_keys", len(t.APIKeys))
	for i, k := range t.APIKeys {
		v.checkAPIKey(at("spec.api_keys", i), k)
	}
	v.bounded("spec.sender_domains", len(t.SenderDomains))
	for i, d := range t.SenderDomains {
		v.pattern(at("spec.sender_domains", i), d)
	}
	if t.DefaultStream != "" {
		if st, _ := v.set.StreamOf(v.now.Name, t.DefaultStream); st == nil {
			refers(v, "spec.default_stream", KindStream, t.DefaultStream, v.set.Streams)
		}
	}
	refers(v, "spec.pool", KindPool, t.Pool, v.set.Pools)
	number(v, "spec.weight", t.Weight, 1, maxWeight)
	v.rate("spec.rate", t.Rate)
	number(v, "spec.per_day", t.PerDay, 1, maxPerDay)
	v.bounded("spec.carriers", len(t.Carriers))
	for _, carrier := range slices.Sorted(maps.Keys(t.Carriers)) {
		path, q := "spec.carriers."+carrier, t.Carriers[carrier]
		refers(v, path, KindCarrier, carrier, v.set.Carriers)
		v.rate(path+".rate", q.Rate)
		number(v, path+".per_day", q.PerDay, 1, maxPerDay)
	}
	number(v, "spec.max_queued", t.MaxQueued, 1, maxPerDay)
	v.word("spec.dsn", t.DSN, dsnWords)
	v.checkTenantFeedback(t)
}

func (v *validation) checkSMTPUser(path string, u SMTPUser) {
	switch {
	case u.Name == "" || len(u.Name) > 255 || !utf8.ValidString(u.Name) || strings.ContainsFunc(u.Name, unicode.IsControl):
		v.bad(path+".name", "want a login name of 1 to 255 bytes without control characters")
	default:
		v.claim(path+".name", "login name", u.Name)
	}
	if _, err := ParsePasswordHash(u.PasswordHash); err != nil {
		v.bad(path+".password_hash", "%v; \"hikyaku secret hash\" makes one from a password", err)
	}
}

func (v *validation) checkAPIKey(path string, k APIKey) {
	if !validName(k.Name) {
		v.bad(path+".name", "%s is not a name: %s", quote(k.Name), nameRule)
	} else {
		v.claim(path+".name", "API key name", v.now.Name+"/"+k.Name)
	}
	v.keyHash(path+".hash", k.Hash)
}

// keyHash checks the stored form of a key. Tenants' keys and admin keys share
// their ids, so that no key can be taken for two.
func (v *validation) keyHash(path, hash string) {
	h, err := ParseKeyHash(hash)
	if err != nil {
		v.bad(path, "%v; \"hikyaku secret key\" prints a key and its hash", err)
		return
	}
	v.claim(path, "API key", h.ID)
}

func (v *validation) network(path string, n Network) {
	if !n.IsValid() {
		v.bad(path, "not a network: want an address or CIDR, as in 192.0.2.0/24 or 2001:db8::/32")
	}
}

func (v *validation) checkStream(s *Stream) {
	if tenant, name, ok := strings.Cut(v.now.Name, "/"); ok && validName(tenant) && validName(name) {
		refers(v, "name", KindTenant, tenant, v.set.Tenants)
	}
	v.word("spec.priority", s.Priority, priorityWords)
	refers(v, "spec.pool", KindPool, s.Pool, v.set.Pools)
	v.span("spec.expires", s.Expires, Duration(time.Minute), Duration(30*24*time.Hour))
	v.span("spec.delay_notice", s.DelayNotice, Duration(time.Minute), Duration(30*24*time.Hour))
	v.retry("spec.retry", s.Retry)
	v.rate("spec.rate", s.Rate)
	number(v, "spec.per_day", s.PerDay, 1, maxPerDay)
	number(v, "spec.weight", s.Weight, 1, maxWeight)
	if len(s.Windows) > 100 {
		v.bad("spec.windows", "%d windows are too many: at most 100", len(s.Windows))
		return
	}
	for i := range s.Windows {
		v.window(at("spec.windows", i), &s.Windows[i])
	}
}

func (v *validation) window(path string, w *Window) {
	seen := map[string]bool{}
	for i, d := range w.Days {
		if d == "" {
			v.bad(at(path+".days", i), "want one of mon, tue, wed, thu, fri, sat, sun")
		}
		v.word(at(path+".days", i), d, dayWords)
		if seen[d] {
			v.bad(at(path+".days", i), "%s is listed twice; leave one out", quote(d))
		}
		seen[d] = true
	}
	start, okStart := ClockMinutes(w.Start)
	end, okEnd := ClockMinutes(w.End)
	if !okStart || start == 24*60 {
		v.bad(path+".start", "%s is no time of day: want HH:MM, 00:00 to 23:59", quote(w.Start))
	}
	if !okEnd {
		v.bad(path+".end", "%s is no time of day: want HH:MM, 00:00 to 24:00", quote(w.End))
	}
	if okStart && okEnd && start == end {
		v.bad(path+".end", "the window has no length; 00:00 to 24:00 is the whole day")
	}
	// "Local" would mean another thing on each machine.
	if _, err := time.LoadLocation(w.TZ); err != nil || w.TZ == "Local" {
		v.bad(path+".tz", "%s is no IANA time zone: want a name as in Asia/Tokyo, Europe/Berlin or UTC", quote(w.TZ))
	}
}

// ClockMinutes reads "HH:MM", 00:00 to 24:00, as minutes since midnight.
func ClockMinutes(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	for _, i := range [...]int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	if m > 59 || h > 24 || (h == 24 && m > 0) {
		return 0, false
	}
	return h*60 + m, true
}

func (v *validation) retry(path string, r *Retry) {
	if r == nil {
		return
	}
	if len(r.Schedule) > 100 {
		v.bad(path+".schedule", "%d waits are too many: at most 100; the last repeats", len(r.Schedule))
		return
	}
	for i, d := range r.Schedule {
		if d < Duration(time.Second) || d > Duration(7*24*time.Hour) {
			v.bad(at(path+".schedule", i), "%s is out of range: want 1s to 7d", d)
		}
	}
	if r.Jitter != nil && (*r.Jitter < 0 || *r.Jitter > 50) {
		v.bad(path+".jitter", "%d is out of range: want 0 to 50 percent", *r.Jitter)
	}
}
