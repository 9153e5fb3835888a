package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// ThrottleRequest is other limits for a carrier, for a while or until they are
// cleared.
type ThrottleRequest struct {
	Rate           string `json:"rate,omitempty" maxLength:"64" doc:"Messages, as in 50/s or 3000/h,burst=10; 0/s stops them."`
	PerDay         int64  `json:"per_day,omitempty" doc:"Messages in any 24 hours."`
	Connections    int    `json:"connections,omitempty" doc:"Open connections."`
	ConnectionRate string `json:"connection_rate,omitempty" maxLength:"64" doc:"New connections, as in 100/m."`
	Pool           string `json:"pool,omitempty" maxLength:"64" doc:"Only the sources of this pool, together."`
	Source         string `json:"source,omitempty" maxLength:"64" doc:"Only this source."`
	Tenant         string `json:"tenant,omitempty" maxLength:"64" doc:"Only what this tenant sends there."`
	Expires        string `json:"expires,omitempty" maxLength:"40" doc:"When it ends, as in 2026-11-22T18:00:00+09:00."`
	For            string `json:"for,omitempty" maxLength:"40" doc:"How long it lasts, as in 2h; in place of expires."`
	Reason         string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the history and for whoever sees it."`
	DryRun         bool   `json:"dry_run,omitempty" doc:"Say what would happen and change nothing."`
}

// throttleBody is ThrottleRequest, typed.
type throttleBody struct {
	Rate           *policy.Rate    `json:"rate"`
	PerDay         int64           `json:"per_day"`
	Connections    int             `json:"connections"`
	ConnectionRate *policy.Rate    `json:"connection_rate"`
	Pool           string          `json:"pool"`
	Source         string          `json:"source"`
	Tenant         string          `json:"tenant"`
	Expires        policy.Instant  `json:"expires"`
	For            policy.Duration `json:"for"`
	Reason         string          `json:"reason"`
	DryRun         bool            `json:"dry_run"`
}

// ThrottleChange is what setting or clearing a throttle did.
type ThrottleChange struct {
	Carrier  string           `json:"carrier"`
	Name     string           `json:"name" doc:"Of the Throttle resource."`
	Throttle *policy.Throttle `json:"throttle,omitempty" doc:"As it stands now; absent: cleared."`
	Result
}

// CarrierThrottles is what limits a carrier now.
type CarrierThrottles struct {
	Carrier   string        `json:"carrier"`
	Revision  int64         `json:"revision" doc:"The policy's revision that was read."`
	Limits    policy.Limits `json:"limits" doc:"Over all sources together, in force now."`
	Own       policy.Limits `json:"own_limits" doc:"Those of the carrier itself, without throttles."`
	Throttles []Resource    `json:"throttles" doc:"All throttles that name the carrier."`
}

// CarrierPath names a carrier.
type CarrierPath struct {
	Carrier string `path:"carrier" maxLength:"64"`
}

// Narrow picks one throttle of a carrier.
type Narrow struct {
	Pool   string `query:"pool" maxLength:"64"`
	Source string `query:"source" maxLength:"64"`
	Tenant string `query:"tenant" maxLength:"64"`
}

type carrierOut struct{ Body *CarrierThrottles }

type throttleOut struct {
	ETag string `header:"ETag" doc:"The throttle's revision, in quotes: for If-Match. Absent once it is cleared."`
	Body *ThrottleChange
}

const throttlePath = "/v1/carriers/{carrier}/throttle"

func (a *api) registerThrottle(h huma.API) {
	const missing, bad, conflict, refused = http.StatusNotFound, http.StatusBadRequest, http.StatusConflict, http.StatusPreconditionFailed
	huma.Register(h, also(operation("get-throttle", http.MethodGet, throttlePath, "Show what limits a carrier"), missing), a.getThrottle)
	huma.Register(h, also(withBody[ThrottleRequest](h, operation("put-throttle", http.MethodPut, throttlePath, "Give a carrier other limits, for a while")), bad, missing, conflict, refused), a.putThrottle)
	clear := operation("clear-throttle", http.MethodDelete, throttlePath, "End a carrier's throttle")
	clear.DefaultStatus = http.StatusOK
	huma.Register(h, also(clear, bad, missing, conflict, refused), a.clearThrottle)
}

func (a *api) getThrottle(ctx context.Context, in *CarrierPath) (*carrierOut, error) {
	set := a.store.Snapshot()
	c := set.Carriers[in.Carrier]
	if c == nil {
		return nil, problem(http.StatusNotFound, "there is no such carrier; \"hikyaku get carriers\" lists them, and \"default\" is all others")
	}
	rs, rev, err := a.store.List(ctx, policy.KindThrottle)
	if err != nil {
		return nil, a.fail("list throttles", err)
	}
	out := &CarrierThrottles{Carrier: in.Carrier, Revision: rev, Own: c.Limits, Throttles: []Resource{},
		Limits: set.LimitsAt(a.now(), policy.Selector{Carrier: in.Carrier})}
	for i := range rs {
		if t, ok := rs[i].Spec.(*policy.Throttle); ok && t.Carrier == in.Carrier {
			out.Throttles = append(out.Throttles, *resource(&rs[i]))
		}
	}
	return &carrierOut{out}, nil
}

func (a *api) putThrottle(ctx context.Context, in *struct {
	Condition
	Author
	CarrierPath
	RawBody []byte `contentType:"application/json"`
}) (*throttleOut, error) {
	var b throttleBody
	if err := body(in.RawBody, &b); err != nil {
		return nil, a.fail("read the body", err)
	}
	if err := checkReason(b.Reason); err != nil {
		return nil, a.fail("read the body", err)
	}
	expires, err := a.ends(&b)
	if err != nil {
		return nil, a.fail("read the body", err)
	}
	t := &policy.Throttle{Carrier: in.Carrier, Pool: b.Pool, Source: b.Source, Tenant: b.Tenant, Rate: b.Rate, PerDay: b.PerDay,
		Connections: b.Connections, ConnectionRate: b.ConnectionRate, Expires: expires, Reason: b.Reason}
	if a.store.Snapshot().Carriers[in.Carrier] == nil {
		return nil, problem(http.StatusNotFound, "there is no such carrier; \"hikyaku get carriers\" lists them, and \"default\" is all others")
	}
	return a.changeThrottle(ctx, in.Condition, t.On(), t, store.Batch{Author: in.name(ctx), Reason: b.Reason, DryRun: b.DryRun})
}

// ends is when the throttle expires, told as a moment or as a span.
func (a *api) ends(b *throttleBody) (policy.Instant, error) {
	at := func(path, reason string) error {
		return strict.Errors{{Position: strict.Position{Line: 1, Column: 1}, Path: path, Reason: reason}}
	}
	now := a.now()
	switch {
	case b.For != 0 && !b.Expires.IsZero():
		return b.Expires, at("for", "give either for or expires")
	case b.For != 0 && b.For.D() < time.Second:
		return b.Expires, at("for", "want at least 1s")
	case b.For != 0:
		return policy.At(now.Add(b.For.D())), nil
	case b.Expires.Reached(now):
		return b.Expires, at("expires", "it is over already; the time here is "+now.UTC().Format(time.RFC3339))
	}
	return b.Expires, nil
}

func (a *api) clearThrottle(ctx context.Context, in *struct {
	Condition
	Author
	CarrierPath
	Narrow
	Reason string `query:"reason" maxLength:"1000" doc:"Why, for the history."`
	DryRun bool   `query:"dry_run" doc:"Say what would happen and change nothing."`
}) (*throttleOut, error) {
	on := policy.Selector{Carrier: in.Carrier, Pool: in.Pool, Source: in.Source, Tenant: in.Tenant}
	return a.changeThrottle(ctx, in.Condition, on, nil, store.Batch{Author: in.name(ctx), Reason: in.Reason, DryRun: in.DryRun})
}

// throttleTries is how often a change is tried that asked for no revision while
// others change the same throttle.
const throttleTries = 5

// changeThrottle puts the throttle of a scope in the place of the one that
// stands there, or takes that away where it is nil.
func (a *api) changeThrottle(ctx context.Context, c Condition, on policy.Selector, t *policy.Throttle, b store.Batch) (*throttleOut, error) {
	asked, err := c.expected()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		change, err := a.throttleOn(ctx, on)
		if err != nil {
			return nil, err
		}
		stands := change.Expected > 0
		if !stands && t == nil {
			return nil, problem(http.StatusNotFound, "there is no throttle on "+on.String())
		}
		if t != nil {
			change.Spec = t
		}
		if asked != 0 {
			change.Expected = asked
		}
		b.Changes = []store.Change{change}
		out, err := a.change(ctx, b, asked != 0)
		var p *huma.ErrorModel
		if asked == 0 && errors.As(err, &p) && p.Status == http.StatusConflict && try < throttleTries {
			continue
		}
		if err != nil {
			return nil, err
		}
		answer := &throttleOut{Body: &ThrottleChange{Carrier: on.Carrier, Name: change.Name, Throttle: t, Result: *out.Body}}
		if i := len(out.Body.Effects) - 1; t != nil && i >= 0 && out.Body.Effects[i].After != nil {
			answer.ETag = etag(out.Body.Effects[i].After.Revision)
		}
		return answer, nil
	}
}

// throttleOn is the change of the throttle of a scope: of the resource that has
// it already, whatever its name, else of a new one.
func (a *api) throttleOn(ctx context.Context, on policy.Selector) (store.Change, error) {
	rs, _, err := a.store.List(ctx, policy.KindThrottle)
	if err != nil {
		return store.Change{}, a.fail("list throttles", err)
	}
	for i := range rs {
		if t, ok := rs[i].Spec.(*policy.Throttle); ok && t.On() == on {
			return store.Change{Kind: policy.KindThrottle, Name: rs[i].Name, Expected: rs[i].Revision}, nil
		}
	}
	name := throttleName(on)
	if slices.ContainsFunc(rs, func(r policy.Resource) bool { return r.Name == name }) {
		name = throttleSum(on)
	}
	return store.Change{Kind: policy.KindThrottle, Name: name, Expected: store.Absent}, nil
}

// throttleName names the throttle of a scope after it, as "docomo.pool.bulk".
func throttleName(on policy.Selector) string {
	const longest = 64
	var parts []string
	for _, p := range [][2]string{{"", on.Carrier}, {"pool.", on.Pool}, {"source.", on.Source}, {"tenant.", on.Tenant}} {
		if p[1] != "" {
			parts = append(parts, p[0]+p[1])
		}
	}
	name := strings.Join(parts, ".")
	if len(name) > longest {
		return throttleSum(on)
	}
	return cmp.Or(name, "throttle")
}

// throttleSum is a name where that of the scope is too long or taken.
func throttleSum(on policy.Selector) string {
	sum := sha256.Sum256([]byte(on.String()))
	return "throttle." + hex.EncodeToString(sum[:8])
}
