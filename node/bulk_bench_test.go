package node

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/lease"
	"hikyaku/node/control"
)

// jobPage is a page of a newsletter job: 4.6 KiB when rendered.
func jobPage(job string, from, recipients int) string {
	const line = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod"
	var b strings.Builder
	b.WriteString(`{"job":"` + job + `","from":{"email":"news@s.test","name":"News"},"subject":"Hello {{first}}","text":"Dear {{first}}, your number is {{num}}.\n`)
	b.WriteString(strings.Repeat(line+`\n`, 14) + `","html":"<p>Dear {{first}}, your number is <b>{{num}}</b>, see <a href=\"https://s.test/{{path}}\">here</a></p>\n`)
	b.WriteString(strings.Repeat("<p>"+line+`</p>\n`, 40) + `","to":[`)
	for i := from; i < from+recipients; i++ {
		if i > from {
			b.WriteByte(',')
		}
		n := strconv.Itoa(i)
		b.WriteString(`{"email":"r` + n + `@d` + strconv.Itoa(i%10) + `.test","vars":{"first":"Taro","num":` + n + `,"path":"offer/` + n + `"}}`)
	}
	b.WriteString("]}")
	return b.String()
}

// hand posts a page and wants 202.
func (w *world) hand(b *testing.B, page string) {
	resp, err := http.Post("http://"+w.http.Addr().String()+"/v1/messages", "application/json", strings.NewReader(page))
	if err != nil {
		b.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusAccepted {
		b.Fatalf("%d %v %.200s", resp.StatusCode, err, answer)
	}
}

const pageOfJob = 5000

// pausedJob is a node with a job that takes mail and sends none.
func pausedJob(b *testing.B, received *atomic.Int64) *world {
	return pausedJobUnder(b, received, nil)
}

func pausedJobUnder(b *testing.B, received *atomic.Int64, change func(*Config)) *world {
	r := receive(b, sink.Options{Message: func(*sink.Received) string { received.Add(1); return "" }})
	w := newWorld(b, change, toSink(r.Addr))
	w.hand(b, jobPage("big", 0, 1))
	w.patch(b, `{"state":"paused"}`)
	return w
}

func (w *world) patch(b *testing.B, change string) {
	if code, v := w.jobCall(http.MethodPatch, "big", change); code != http.StatusOK {
		b.Fatal(code, v)
	}
}

// BenchmarkBulkAccept is one connection that hands in pages of a template job
// as fast as they are durable, on the disk under the test's directory.
func BenchmarkBulkAccept(b *testing.B) {
	var received atomic.Int64
	w := pausedJob(b, &received)
	page := jobPage("big", 1, pageOfJob)
	b.ReportAllocs()
	for b.Loop() {
		w.hand(b, page)
	}
	b.ReportMetric(float64(b.N*pageOfJob)/b.Elapsed().Seconds(), "recipients/s")
}

// BenchmarkBulkDrain is the same job on its way from the spool to a receiver in
// this process: paging, rendering, sending, recording.
func BenchmarkBulkDrain(b *testing.B) {
	var received atomic.Int64
	w := pausedJob(b, &received)
	w.drainJob(b, &received)
}

// BenchmarkBulkDrainRuled is that on a node of a cluster: what each message pays
// for its source's fence, for the end of the grants, and for the signals.
func BenchmarkBulkDrainRuled(b *testing.B) {
	var received atomic.Int64
	r := &ruler{}
	w := pausedJobUnder(b, &received, func(c *Config) {
		c.Control = func(n control.Node, _ string) (Control, error) { r.node = n; return r, nil }
	})
	k, err := lease.New(time.Now(), time.Hour, time.Second)
	if err != nil {
		b.Fatal(err)
	}
	r.give("default", 1, k)
	grant := exchange.Grant{Scope: exchange.Scope{Kind: exchange.Tenant, Tenant: "default"}, Holding: exchange.Holding{Share: exchange.FullShare}}
	r.node.UseGrants(control.Grants{Floor: exchange.FullShare, Until: time.Now().Add(time.Hour), List: []exchange.Grant{grant}})
	w.drainJob(b, &received)
}

func (w *world) drainJob(b *testing.B, received *atomic.Int64) {
	for n := range b.N {
		w.hand(b, jobPage("big", 1+n*pageOfJob, pageOfJob))
	}
	want := received.Load() + int64(b.N*pageOfJob)
	b.ReportAllocs()
	b.ResetTimer()
	w.patch(b, `{"state":"active"}`)
	until(b, "the job to be through", func() bool { return received.Load() >= want })
	b.StopTimer()
	b.ReportMetric(float64(b.N*pageOfJob)/b.Elapsed().Seconds(), "deliveries/s")
}
