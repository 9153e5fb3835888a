package catalogue_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
)

func TestLocalSettingsGoFieldByField(t *testing.T) {
	jitter := 20
	local := carrier("docomo", policy.Carrier{
		MessagesPerConnection: 10,
		PerSource:             policy.Limits{Rate: &policy.Rate{N: 2, Per: time.Second}},
		Retry:                 &policy.Retry{Jitter: &jitter},
		TLS:                   policy.TLSNone,
	})
	before := *local.Spec.(*policy.Carrier)
	shipped, got := set(t).Carriers["docomo"], set(t, local).Carriers["docomo"]
	if got.MessagesPerConnection != 10 || got.PerSource.Rate.N != 2 || *got.Retry.Jitter != 20 || got.TLS != policy.TLSNone {
		t.Errorf("what was given does not hold: %+v", got)
	}
	if got.PerSource.Connections != shipped.PerSource.Connections || got.RecipientsPerConnection != 90 || got.OddLocalParts != policy.OddQuoted ||
		!slices.Equal(got.Retry.Schedule, shipped.Retry.Schedule) || !slices.Equal(got.Domains, shipped.Domains) || got.StartJitter != shipped.StartJitter {
		t.Errorf("what was not given changed: %+v", got)
	}
	if !reflect.DeepEqual(&before, local.Spec) {
		t.Error("the local resource was changed")
	}
	if again := set(t).Carriers["docomo"]; !reflect.DeepEqual(again, shipped) {
		t.Errorf("what ships was changed: %+v", again)
	}
}

// TestEveryFieldCanBeOverridden: a field that a later version adds is merged too.
func TestEveryFieldCanBeOverridden(t *testing.T) {
	for i := range reflect.TypeFor[policy.Carrier]().NumField() {
		f := reflect.TypeFor[policy.Carrier]().Field(i)
		given := &policy.Carrier{}
		fill(t, reflect.ValueOf(given).Elem().Field(i))
		var got *policy.Carrier
		for _, r := range catalogue.Over([]policy.Resource{carrier("docomo", *given)}) {
			if r.Name == "docomo" {
				got = r.Spec.(*policy.Carrier)
			}
		}
		if have, want := reflect.ValueOf(got).Elem().Field(i).Interface(), reflect.ValueOf(given).Elem().Field(i).Interface(); !reflect.DeepEqual(have, want) {
			t.Errorf("%s: %+v, want %+v", f.Name, have, want)
		}
	}
}

// fill sets a field and all fields in it to something that does not ship.
func fill(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Struct:
		if _, opaque := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }); opaque && v.Type() != reflect.TypeFor[policy.Rate]() {
			if err := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }).UnmarshalText([]byte("192.0.2.0/24")); err != nil {
				t.Fatal(err)
			}
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(t, value)
		v.SetMapIndex(reflect.ValueOf("x"), value)
	case reflect.String:
		v.SetString("given")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(4711)
	case reflect.Float64:
		v.SetFloat(47.11)
	default:
		t.Fatalf("no value for a %s", v.Type())
	}
}

func TestLeftOut(t *testing.T) {
	off := set(t, carrier("docomo", policy.Carrier{Disabled: true}))
	if got := off.CarrierOf("docomo.ne.jp", []string{"mfsmax.docomo.ne.jp"}); got != policy.DefaultName {
		t.Errorf("docomo is left out, but its mail is that of %s", got)
	}
	if got := off.CarrierOf("ezweb.ne.jp", nil); got != "au" {
		t.Errorf("au went too: %s", got)
	}
	none := set(t, reputation(policy.CatalogueNone), carrier("docomo", policy.Carrier{Domains: []string{"docomo.test"}}))
	if len(none.Carriers) != 2 {
		t.Errorf("%d carriers beside the default one and docomo", len(none.Carriers)-2)
	}
	if c := none.Carriers["docomo"]; c.RecipientsPerConnection != 0 || len(c.MX) > 0 {
		t.Errorf("without the catalogue, shipped settings hold: %+v", c)
	}
	if all := set(t, reputation(policy.CatalogueShipped)); all.Carriers["docomo"] == nil {
		t.Error("the word for the default leaves the carriers out")
	}
}

func TestLocalPatternsWin(t *testing.T) {
	s := set(t,
		carrier("mine", policy.Carrier{MX: []string{"yahoodns.net"}, Domains: []string{"docomo.ne.jp", "*.vodafone.ne.jp"}}),
		carrier("au", policy.Carrier{MessagesPerConnection: 7}), // gives no patterns, so it can lose them
		carrier("our-ezweb", policy.Carrier{Domains: []string{"ezweb.ne.jp"}}),
		carrier("off", policy.Carrier{MX: []string{".google.com"}, Disabled: true}), // takes nothing
	)
	for _, tt := range []struct{ domain, mx, want string }{
		{"yahoo.com", "mta5.am0.yahoodns.net", "mine"}, // without a dot it means the same
		{"docomo.ne.jp", "", "mine"},
		{"k.vodafone.ne.jp", "mx.k.vodafone.ne.jp", "mine"},
		{"softbank.ne.jp", "", "softbank"}, // what was not taken stays
		{"ezweb.ne.jp", "lsean.ezweb.ne.jp", "our-ezweb"},
		{"au.com", "", "au"},
		{"x.example", "aspmx.l.google.com", "gmail"},
	} {
		if got := s.CarrierOf(tt.domain, strings.Fields(tt.mx)); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.domain, tt.mx, got, tt.want)
		}
	}
	// Two that were both given it are for the operator to tell apart.
	_, problems := policy.New(catalogue.Over([]policy.Resource{
		carrier("mine", policy.Carrier{Domains: []string{"docomo.ne.jp"}}), carrier("docomo", policy.Carrier{Domains: []string{"docomo.ne.jp"}}),
	}))
	if len(problems) != 1 || !strings.Contains(problems[0].Reason, "taken by") {
		t.Errorf("problems: %v", problems)
	}
}

func TestWhatIsWrongLocallyIsStillReported(t *testing.T) {
	for name, rs := range map[string][]policy.Resource{
		"a bad value":            {carrier("docomo", policy.Carrier{MessagesPerConnection: -1})},
		"two of one name":        {carrier("docomo", policy.Carrier{}), carrier("docomo", policy.Carrier{})},
		"no spec":                {{Kind: policy.KindCarrier, Name: "docomo"}},
		"a nil spec":             {{Kind: policy.KindCarrier, Name: "docomo", Spec: (*policy.Carrier)(nil)}},
		"another kind's spec":    {{Kind: policy.KindCarrier, Name: "docomo", Spec: &policy.Route{}}},
		"a spec of another":      {{Kind: policy.KindRoute, Name: "docomo", Spec: &policy.Carrier{}}},
		"an unknown carrier":     {{Kind: policy.KindRoute, Name: "r", Spec: &policy.Route{Domains: []string{"x.jp"}, Carrier: "dokomo"}}},
		"the default left out":   {carrier("default", policy.Carrier{Disabled: true})},
		"a second of Reputation": {reputation(""), reputation("")},
	} {
		if _, problems := policy.New(catalogue.Over(rs)); len(problems) == 0 {
			t.Errorf("%s: no problem", name)
		}
	}
}

func TestPolicyMaySpeakOfShippedCarriers(t *testing.T) {
	s := set(t, referring("docomo")...)
	if c, name := s.CarrierFor(s.Routes["r"], "r.jp", nil); name != "docomo" || c.RecipientsPerConnection != 90 {
		t.Errorf("a route to docomo: %s", name)
	}
}

// referring are resources of all kinds that speak of a carrier.
func referring(name string) []policy.Resource {
	return []policy.Resource{
		{Kind: policy.KindRoute, Name: "r", Spec: &policy.Route{Domains: []string{"r.jp"}, Carrier: name}},
		{Kind: policy.KindThrottle, Name: "t", Spec: &policy.Throttle{Carrier: name, Connections: 1}},
		{Kind: policy.KindTenant, Name: "acme", Spec: &policy.Tenant{Carriers: map[string]policy.Quota{name: {PerDay: 5}}}},
		{Kind: policy.KindReplyRule, Name: "rr", Spec: &policy.ReplyRule{Carrier: name, Category: "rate", Examples: []string{"450 slow"}}},
		{Kind: policy.KindWarmUp, Name: "w", Spec: &policy.WarmUp{Source: "default", Carriers: []string{name}}},
	}
}

func TestStoredPolicyMaySpeakOfCarriersOfALaterVersion(t *testing.T) {
	for _, r := range referring("of-2031") {
		if _, problems := policy.New(catalogue.Over([]policy.Resource{r})); len(problems) == 0 {
			t.Errorf("%s: a name that nobody knows was taken from an operator", r.ID())
		}
		if _, problems := policy.New(catalogue.OverStored([]policy.Resource{r})); len(problems) > 0 {
			t.Errorf("%s: %v", r.ID(), problems)
		}
	}
	rs := catalogue.OverStored(referring("of-2031"))
	s, problems := policy.New(rs)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	if _, name := s.CarrierFor(s.Routes["r"], "r.jp", nil); name != policy.DefaultName {
		t.Errorf("mail of a carrier that is not known is that of %s", name)
	}
	if _, problems := policy.New(catalogue.OverStored(append(referring("of-2031"), reputation(policy.CatalogueNone)))); len(problems) > 0 {
		t.Errorf("without the catalogue: %v", problems)
	}
}

func TestView(t *testing.T) {
	docomo := carrier("docomo", policy.Carrier{MessagesPerConnection: 5})
	docomo.Revision = 7
	view := map[string]catalogue.Carrier{}
	for _, v := range catalogue.View([]policy.Resource{docomo, carrier("au", policy.Carrier{Disabled: true}), carrier("mine", policy.Carrier{MX: []string{".google.com"}})}) {
		view[v.Name] = v
	}
	for name, want := range map[string]string{"gmail": catalogue.Shipped, "docomo": catalogue.Overridden, "au": catalogue.Overridden, "mine": catalogue.Local} {
		if view[name].Origin != want {
			t.Errorf("%s: %q, want %q", name, view[name].Origin, want)
		}
	}
	if v := view["docomo"]; v.Local.Revision != 7 || v.InForce.MessagesPerConnection != 5 || v.InForce.RecipientsPerConnection != 90 {
		t.Errorf("docomo: %+v", v)
	}
	if v := view["gmail"]; !slices.Equal(v.Released, []string{"mx .google.com"}) {
		t.Errorf("gmail lost %q", v.Released)
	}
	if !view["au"].LeftOut {
		t.Error("au is not left out")
	}
	if v := catalogue.View([]policy.Resource{reputation(policy.CatalogueNone), docomo}); len(v) != 1 || v[0].Origin != catalogue.Local {
		t.Errorf("without the catalogue: %+v", v)
	}
}
