package api_test

import (
	"context"
	"strings"
	"testing"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/policy"
)

func TestCarriersInForce(t *testing.T) {
	s, _, p := serve(t)
	ctx := context.Background()
	if _, err := p.Apply(ctx, &api.ApplyRequest{Resources: []api.Resource{
		{Kind: "Carrier", Name: "docomo", Spec: &policy.Carrier{MessagesPerConnection: 7}},
		{Kind: "Carrier", Name: "mine", Spec: &policy.Carrier{MX: []string{".google.com"}}},
		{Kind: "Throttle", Name: "t", Spec: &policy.Throttle{Carrier: "au", Connections: 1}}, // which nobody gave
	}}); err != nil {
		t.Fatal(err)
	}
	if l, err := p.List(ctx, "Carrier"); err != nil || len(l.Resources) != 2 || l.Resources[0].Origin != "" || l.Resources[0].InForce != nil {
		t.Errorf("what was given: %+v, %v", l, err)
	}
	l, err := p.ListInForce(ctx, "carriers")
	if err != nil || l.Revision != 1 {
		t.Fatal(l, err)
	}
	got := map[string]api.Resource{}
	for _, r := range l.Resources {
		got[r.Name] = r
	}
	for name, want := range map[string]string{"docomo": "overridden", "mine": "local", "gmail": "shipped"} {
		if got[name].Origin != want {
			t.Errorf("%s: %q, want %q", name, got[name].Origin, want)
		}
	}
	if r := got["gmail"]; len(r.Lost) != 1 || r.Lost[0] != "mx .google.com" || r.Title == "" || r.Revision != 0 {
		t.Errorf("gmail: %+v", r)
	}
	r, err := p.GetInForce(ctx, "carrier", "docomo")
	if err != nil || r.Revision != 1 || r.Spec.(*policy.Carrier).MessagesPerConnection != 7 || r.Spec.(*policy.Carrier).RecipientsPerConnection != 0 ||
		r.InForce.MessagesPerConnection != 7 || r.InForce.RecipientsPerConnection != 90 {
		t.Errorf("docomo: %+v, %v", r, err)
	}
	if _, err := p.GetInForce(ctx, "Carrier", "dokomo"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("nobody's carrier: %v", err)
	}
	for _, step := range []struct {
		path string
		code int
		want string
	}{
		{"/v1/policy/Carrier/au", 404, "not found"}, // nothing was given for it
		{"/v1/policy/Carrier/au?in_force=true", 200, `"spec":{},"origin":"shipped"`},
		{"/v1/policy/Route?in_force=true", 200, `"resources":[]`},
		{"/v1/policy/Throttle/t?in_force=true", 200, `"carrier":"au"`},
		{"/v1/policy/Carrier?in_force=maybe", 422, "in_force"},
	} {
		if code, body := ask(t, s, "GET", step.path, ""); code != step.code || !strings.Contains(body, step.want) {
			t.Errorf("%s: %d %.300s", step.path, code, body)
		}
	}
}
