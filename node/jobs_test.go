package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

// jobCall is a client's call on a job.
func (w *world) jobCall(method, job, body string) (int, map[string]any) {
	w.t.Helper()
	resp, text := request(w.t, method, "http://"+w.http.Addr().String()+"/v1/jobs/"+job, body)
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		w.t.Fatalf("%s: %d, not JSON: %s", method, resp.StatusCode, text)
	}
	return resp.StatusCode, v
}

func TestJobOverHTTP(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	first := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}, job: "j"})
	w.waitFor(first, message.EventDelivered, 1)
	if code, v := w.jobCall(http.MethodPatch, "j", `{"state":"paused"}`); code != 200 || v["state"] != "paused" {
		t.Fatalf("pause: %d %v", code, v)
	}
	second := w.send(mail{from: "s@s.test", to: []string{"b@d.test"}, job: "j"})
	w.waitFor(w.send(mail{from: "s@s.test", to: []string{"c@d.test"}}), message.EventDelivered, 1)
	if code, v := w.jobCall(http.MethodGet, "j", ""); code != 200 || v["queued"] != 1.0 || v["delivered"] != 1.0 || v["accepted"] != 2.0 {
		t.Errorf("paused: %d %v", code, v)
	}
	if code, v := w.jobCall(http.MethodPatch, "j", `{"state":"active","rate":"1000/s"}`); code != 200 || v["state"] != "active" || v["rate"] != "1000/s" {
		t.Fatalf("resume: %d %v", code, v)
	}
	w.waitFor(second, message.EventDelivered, 1)
	third := w.send(mail{from: "s@s.test", to: []string{"d@d.test"}, job: "j", sendAt: time.Now().Add(time.Hour)})
	if code, v := w.jobCall(http.MethodDelete, "j", ""); code/100 != 2 || v["state"] != "cancelled" || v["queued"] != 0.0 || v["cancelled"] != 1.0 {
		t.Fatalf("cancel: %d %v", code, v)
	}
	w.waitFor(third, message.EventCancelled, 1)
	if r := w.refused(mail{from: "s@s.test", to: []string{"e@d.test"}, job: "j"}); r.HTTP != 409 {
		t.Errorf("mail for a cancelled job: %v", r)
	}
	if code, _ := w.jobCall(http.MethodPatch, "j", `{"state":"active"}`); code != 409 {
		t.Errorf("resume of a cancelled job: %d", code)
	}
	if code, _ := w.jobCall(http.MethodGet, "none", ""); code != 404 {
		t.Errorf("unknown job: %d", code)
	}
	w.balance()
}

func TestJobByTheAdminAPI(t *testing.T) {
	w := newWorld(t, nil, held)
	w.send(mail{from: "s@s.test", to: []string{"a@d.test"}, job: "j", sendAt: time.Now().Add(time.Hour)})
	change := func(state, rate *string) (*api.Job, error) {
		return w.ChangeJob(t.Context(), policy.DefaultName, "j", api.JobChange{State: state, Rate: rate})
	}
	text := func(s string) *string { return &s }
	if j, err := change(text("paused"), text("5/m")); err != nil || j.State != "paused" || j.Rate != "5/m" {
		t.Errorf("pause: %+v, %v", j, err)
	}
	if j, err := change(nil, text("")); err != nil || j.State != "paused" || j.Rate != "" {
		t.Errorf("no rate: %+v, %v", j, err)
	}
	if _, err := change(nil, text("fast")); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a rate that is none: %v", err)
	}
	w.restart()
	if j, err := w.Job(t.Context(), policy.DefaultName, "j"); err != nil || j.State != "paused" {
		t.Errorf("after a restart: %+v, %v", j, err)
	}
	if j, err := change(text("cancelled"), nil); err != nil || j.State != "cancelled" || j.Queued != 0 || j.Cancelled != 1 {
		t.Errorf("cancel: %+v, %v", j, err)
	}
	list, err := w.Jobs(t.Context(), api.JobFilter{State: "cancelled", Limit: 10})
	if err != nil || len(list.Jobs) != 1 {
		t.Errorf("list: %+v, %v", list, err)
	}
	w.restart()
	if r := w.refused(mail{from: "s@s.test", to: []string{"e@d.test"}, job: "j"}); r.HTTP != 409 {
		t.Errorf("mail for a cancelled job after a restart: %v", r)
	}
}

// TestNoMailSlipsPastTheCancelOfItsJob submits while the job is cancelled:
// whatever was acknowledged ends, and nothing of it stays queued or goes out
// after the cancel was answered.
func TestNoMailSlipsPastTheCancelOfItsJob(t *testing.T) {
	w := newWorld(t, nil, held)
	var acked atomic.Int64
	var wg sync.WaitGroup
	w.send(mail{from: "s@s.test", to: []string{"a@d.test"}, job: "j", sendAt: time.Now().Add(time.Hour)})
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := w.submit(mail{from: "s@s.test", to: []string{fmt.Sprintf("r%d-%d@d.test", g, i)}, job: "j", sendAt: time.Now().Add(time.Hour)})
				var r *ingest.Refusal
				if errors.As(err, &r) && r.HTTP == 409 {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				acked.Add(1)
			}
		})
	}
	until(t, "some mail", func() bool { return acked.Load() > 100 })
	if _, err := (clientQueue{w.Node}).CancelJob(t.Context(), policy.DefaultName, "j"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	w.empty()
	j, err := w.Job(t.Context(), policy.DefaultName, "j")
	if err != nil || j.Cancelled != acked.Load()+1 || j.Queued != 0 {
		t.Errorf("job: %+v, %v; %d acknowledged", j, err, acked.Load()+1)
	}
	w.balance()
}

func TestPauseDoesNotUndoACancel(t *testing.T) {
	w := newWorld(t, nil, held)
	for i := range 20 {
		job := fmt.Sprint("j", i)
		w.send(mail{from: "s@s.test", to: []string{"a@d.test"}, job: job, sendAt: time.Now().Add(time.Hour)})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := (clientQueue{w.Node}).CancelJob(t.Context(), policy.DefaultName, job); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			paused := ingest.JobPaused
			_, _ = clientQueue{w.Node}.PatchJob(t.Context(), policy.DefaultName, job, ingest.JobPatch{State: &paused}) // it may come too late
		})
		wg.Wait()
		if j, err := w.Job(t.Context(), policy.DefaultName, job); err != nil || j.State != "cancelled" {
			t.Fatalf("job: %+v, %v", j, err)
		}
	}
}

func TestMoreCancelledJobsThanMemoryHolds(t *testing.T) {
	w := newWorld(t, nil, held)
	for _, job := range []string{"one", "two"} {
		w.send(mail{from: "s@s.test", to: []string{"a@d.test"}, job: job, sendAt: time.Now().Add(time.Hour)})
		if _, err := (clientQueue{w.Node}).CancelJob(t.Context(), policy.DefaultName, job); err != nil {
			t.Fatal(err)
		}
	}
	w.jobs.mu.Lock()
	clear(w.jobs.mu.cancelled)
	w.jobs.mu.overflow = true
	w.jobs.mu.Unlock()
	if r := w.refused(mail{from: "s@s.test", to: []string{"e@d.test"}, job: "two"}); r.HTTP != 409 {
		t.Errorf("got %v", r)
	}
	w.send(mail{from: "s@s.test", to: []string{"e@d.test"}, job: "three", sendAt: time.Now().Add(time.Hour)})
}

func TestTenantsSeeTheirOwnMailOnly(t *testing.T) {
	w := newWorld(t, nil, held, resource("mine", &policy.Tenant{}), resource("other", &policy.Tenant{}))
	id := w.send(mail{tenant: "mine", from: "s@s.test", to: []string{"a@d.test"}, job: "j", sendAt: time.Now().Add(time.Hour)})
	q := clientQueue{w.Node}
	if _, err := q.MessageStatus(t.Context(), "other", id, 0, 10); !errors.Is(err, ingest.ErrNotFound) {
		t.Errorf("status: %v", err)
	}
	if _, err := q.CancelMessage(t.Context(), "other", id, nil); !errors.Is(err, ingest.ErrNotFound) {
		t.Errorf("cancel: %v", err)
	}
	if _, err := q.Job(t.Context(), "other", "j"); !errors.Is(err, ingest.ErrNotFound) {
		t.Errorf("job: %v", err)
	}
	if _, err := q.CancelJob(t.Context(), "other", "j"); !errors.Is(err, ingest.ErrNotFound) {
		t.Errorf("cancel job: %v", err)
	}
	if st, err := q.MessageStatus(t.Context(), "mine", id, 0, 10); err != nil || st.Total != 1 || len(st.Deliveries) != 1 || st.Deliveries[0].Recipients[0].State != message.Queued {
		t.Errorf("its owner sees %+v, %v", st, err)
	}
	res, err := q.CancelMessage(t.Context(), "mine", id, nil)
	if err != nil || res.Cancelled != 1 {
		t.Errorf("its owner cancels: %+v, %v", res, err)
	}
}
