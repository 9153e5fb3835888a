package webhook_test

import (
	"encoding/json"
	"testing"
	"time"

	"hikyaku/node/webhook"
	"hikyaku/spool/message"
)

// FuzzBatch: whatever a peer said, a body is valid JSON, each event has its own
// id and type, and a tenant's webhook gets nothing of another's.
func FuzzBatch(f *testing.F) {
	f.Add("acme", "bulk", "r@x.test", "550 5.1.1 \"no\"", "")
	f.Add("evil", `","tenant":"acme`, "\"tenant\":\"acme\"", "\x00\xff\u2028", `{"tenant":"acme"}`)
	f.Add("", "", "\n", "\r\n\t\\", `{"event_id":"x","type":"accepted"}`)
	f.Fuzz(func(t *testing.T, tenant, stream, recipient, text, metadata string) {
		e := message.Event{Type: message.EventBounced, Time: time.Unix(1e9, 0), Tenant: tenant, Stream: stream, Recipient: recipient, Sender: recipient, Host: text}
		var object map[string]any
		if json.Unmarshal([]byte(metadata), &object) == nil && object != nil {
			e.Metadata = []byte(metadata)
		}
		lines := e.AppendJSON(nil)
		for _, want := range []string{"", "acme"} {
			body, n := webhook.Body(want, lines)
			var b posted
			if err := json.Unmarshal(body, &b); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if !json.Valid(lines) && n == 0 {
				continue
			}
			if len(b.Events) != n || (n == 1) != (want == "" || tenant == want) && json.Valid(lines) && decodes(tenant) {
				t.Fatalf("%d events for %q of %q: %s", n, want, tenant, body)
			}
			for _, x := range b.Events {
				if x["event_id"] != "ab12-7-0" || x["type"] != "bounced" {
					t.Errorf("event %v", x)
				}
			}
		}
	})
}

// decodes reports whether a text comes back from JSON as it was.
func decodes(s string) bool {
	b, err := json.Marshal(s)
	var back string
	return err == nil && json.Unmarshal(b, &back) == nil && back == s
}
