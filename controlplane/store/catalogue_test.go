package store_test

import (
	"context"
	"strings"
	"testing"

	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// TestCatalogueLiesUnderWhatIsStored: what ships is in force and is never stored,
// so that an upgrade may change it.
func TestCatalogueLiesUnderWhatIsStored(t *testing.T) {
	eachStore(t, func(t *testing.T, s store.Store) {
		ctx := context.Background()
		if c := s.Snapshot().Carriers["docomo"]; c == nil || c.RecipientsPerConnection != 90 {
			t.Fatalf("an empty store: %+v", c)
		}
		apply := func(kind, name string, spec any) error {
			_, err := s.Apply(ctx, store.Batch{Changes: []store.Change{{Kind: kind, Name: name, Spec: spec}}, Author: "ann"})
			return err
		}
		if err := apply(policy.KindCarrier, "docomo", &policy.Carrier{MessagesPerConnection: 7}); err != nil {
			t.Fatal(err)
		}
		if c := s.Snapshot().Carriers["docomo"]; c.MessagesPerConnection != 7 || c.RecipientsPerConnection != 90 {
			t.Errorf("in force: %+v", c)
		}
		rs, _, err := s.List(ctx, "")
		if err != nil || len(rs) != 1 || rs[0].Spec.(*policy.Carrier).RecipientsPerConnection != 0 {
			t.Errorf("stored: %+v, %v", rs, err)
		}
		if err := apply(policy.KindRoute, "r", &policy.Route{Domains: []string{"r.jp"}, Carrier: "au"}); err != nil {
			t.Errorf("a route to a carrier that ships: %v", err)
		}
		if err := apply(policy.KindRoute, "q", &policy.Route{Domains: []string{"q.jp"}, Carrier: "of-2031"}); err == nil || !strings.Contains(err.Error(), "there is no Carrier") {
			t.Errorf("a route to a carrier that nobody has: %v", err)
		}
		// What policy speaks of cannot be taken away with the catalogue.
		if err := apply(policy.KindReputation, policy.DefaultName, &policy.Reputation{Catalogue: policy.CatalogueNone}); err == nil || !strings.Contains(err.Error(), `no Carrier "au"`) {
			t.Errorf("without the catalogue: %v", err)
		}
		if err := apply(policy.KindCarrier, "docomo", nil); err != nil {
			t.Fatal(err)
		}
		if c := s.Snapshot().Carriers["docomo"]; c == nil || c.MessagesPerConnection != 20 {
			t.Errorf("deleted, what ships is in force again: %+v", c)
		}
	})
}
