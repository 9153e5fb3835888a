package follow_test

import (
	"strings"
	"testing"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// TestNodesFollowPolicyOverTheCatalogue: what is stored changes what ships, and a
// carrier that only a later version ships is no reason to stay behind.
func TestNodesFollowPolicyOverTheCatalogue(t *testing.T) {
	w := newWorld(t)
	f := open(t, w.options(t.TempDir()))
	if c := f.Snapshot().Carriers["docomo"]; c == nil || c.RecipientsPerConnection != 90 {
		t.Errorf("before any policy: %+v", c)
	}
	w.forge(t, keyspace.Record{Kind: "Carrier", Name: "docomo", Spec: []byte(`{"messages_per_connection":7}`)},
		keyspace.Record{Kind: "Route", Name: "r", Spec: []byte(`{"domains":["r.jp"],"carrier":"of-2031"}`)},
		keyspace.Record{Kind: "Throttle", Name: "t", Spec: []byte(`{"carrier":"of-2031","connections":1}`)})
	reaches(t, f, 1)
	s := f.Snapshot()
	if c := s.Carriers["docomo"]; c.MessagesPerConnection != 7 || c.RecipientsPerConnection != 90 {
		t.Errorf("changed field by field: %+v", c)
	}
	if _, name := s.CarrierFor(s.Routes["r"], "r.jp", nil); name != policy.DefaultName || f.Status().Alarm != "" {
		t.Errorf("mail of a later version's carrier is that of %s; %+v", name, f.Status())
	}
	// Who would write policy has to know the name.
	reachesStore(t, w.store, 1)
	_, err := w.store.Apply(t.Context(), store.Batch{Changes: []store.Change{{Kind: "Source", Name: "s", Spec: &policy.Source{Address: "10.0.0.2"}}}})
	if err == nil || !strings.Contains(err.Error(), `there is no Carrier "of-2031"`) {
		t.Error(err)
	}
	w.forge(t, keyspace.Record{Kind: "Reputation", Name: "default", Spec: []byte(`{"catalogue":"none"}`)})
	reaches(t, f, 2)
	if s := f.Snapshot(); len(s.Carriers) > 3 {
		t.Errorf("%d carriers without the catalogue", len(s.Carriers))
	}
}
