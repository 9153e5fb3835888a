package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/controlplane/policy"
)

// TestHandsTurnThrottles: the text rules' hand suspends a source for what it reads
// in the event log and lets it go when the time is over; the oracle's passes on what
// it is told; the idle one does nothing.
func TestHandsTurnThrottles(t *testing.T) {
	var streams atomic.Int32
	turned, next := make(chan string, 10), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if r.URL.Path != "/v1/events/tail" || r.URL.Query().Get("type") != "deferred,bounced" {
				t.Errorf("asked for %s", r.URL)
			}
			says := func(carrier, text string) {
				fmt.Fprintln(w, `{"type":"deferred","time":"`+time.Now().Format(time.RFC3339Nano)+`","id":"01m82je1egdqdqg8pz4hdhdz5p-0","carrier":"`+carrier+`","source":"source-0",`+
					`"reply":{"code":421,"enhanced":"4.7.0","text":"`+text+`","phase":"mail"}}`)
			}
			if streams.Add(1) == 1 { // the second goes on
				for range 2 {
					says("gmail", "Our system has detected an unusual rate of mail")
				}
				fmt.Fprintln(w, `{"end":true}`)
				return
			}
			<-next
			says("yahoo", "[TS04] Messages deferred")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		b, _ := io.ReadAll(r.Body)
		turned <- r.Method + " " + r.URL.String() + " " + string(b)
		_, _ = io.WriteString(w, "{}")
	}))
	defer api.Close()
	node := &candidate.Hikyaku{Admin: strings.TrimPrefix(api.URL, "http://")}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	const pace = 18_000 // the rule's half an hour is 100 ms
	reads, err := newReading(node, pace)
	if err != nil {
		t.Fatal(err)
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // awaited below
		err := reads.work(working)
		if err != nil {
			t.Errorf("the text rules' hand: %v", err)
			cancel()
		}
		close(ended)
	}()
	expect(ctx, t, turned, "PUT /v1/carriers/gmail/throttle", map[string]any{"source": "source-0", "rate": fmt.Sprintf("%d/m", 10*pace)})
	expect(ctx, t, turned, "DELETE /v1/carriers/gmail/throttle?source=source-0", nil)
	// A suspension, which ends by itself, is set and cleared once.
	close(next)
	expect(ctx, t, turned, "PUT /v1/carriers/yahoo/throttle", map[string]any{"source": "source-0", "rate": "0/s"})
	expect(ctx, t, turned, "DELETE /v1/carriers/yahoo/throttle?source=source-0", nil)
	stop()
	<-ended

	lane := policy.Steered{Carrier: "yahoo", Source: "source-1"}
	limits := policy.Limits{Connections: 2, Rate: &policy.Rate{N: 900, Per: time.Hour}}
	if err := (knowing{node}).told(ctx, lane, limits); err != nil {
		t.Fatal(err)
	}
	expect(ctx, t, turned, "PUT /v1/carriers/yahoo/throttle", map[string]any{"source": "source-1", "rate": "900/h", "connections": 2.0})
	if err := (idle{}).told(ctx, lane, limits); err != nil || len(turned) > 0 {
		t.Errorf("the idle hand turned a throttle, or failed: %v", err)
	}
}

func expect(ctx context.Context, t *testing.T, turned <-chan string, request string, body map[string]any) {
	t.Helper()
	select {
	case got := <-turned:
		rest, ok := strings.CutPrefix(got, request+" ")
		var b map[string]any
		if !ok || body != nil && json.Unmarshal([]byte(rest), &b) != nil || fmt.Sprint(b) != fmt.Sprint(body) {
			t.Fatalf("turned %s, want %s %v", got, request, body)
		}
	case <-ctx.Done():
		t.Fatalf("nothing was turned, want %s %v", request, body)
	}
}
