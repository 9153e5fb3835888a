package ingest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// bulkBody is a request to many recipients as a newsletter makes it.
func bulkBody(recipients int) []byte {
	var b strings.Builder
	b.WriteString(`{"from":{"email":"news@acme.example","name":"飛脚ニュース"},"subject":"{{name}}様へのお知らせ","text":"{{name}}様、ポイントは{{points}}です。","to":[`)
	for i := range recipients {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"email":"user%06d@mail%03d.example.jp","name":"山田 太郎 %d","vars":{"points":%d,"plan":"gold","city":"東京"},"metadata":{"user_id":%d}}`, i, i%500, i, i*7, i)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

// nowhere is an Acceptor that stores nothing, to measure what stands before it.
type nowhere struct {
	ids message.IDs
	set *policy.Set
}

func (n *nowhere) Admit(string) error                        { return nil }
func (n *nowhere) NewID(now time.Time) message.ID            { return n.ids.New(now) }
func (n *nowhere) Accept(context.Context, *Submission) error { return nil }
func (n *nowhere) Policy() *policy.Set                       { return n.set }

// points stands for a compiled template: the cost of compose is measured there.
type points struct{}

func (points) Check(*message.Recipient) error { return nil }

func bulkServer(tb testing.TB) (*HTTPServer, *caller) {
	set, problems := policy.New(nil)
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	s, err := NewHTTPServer(HTTPOptions{Hostname: "mx.acme.example", Listener: HTTPListener{Listen: "127.0.0.1:0"}, Backend: HTTPBackend{
		Acceptor: &nowhere{set: set}, Compile: func(*message.Template) (CompiledTemplate, []Problem) { return points{}, nil }}})
	if err != nil {
		tb.Fatal(err)
	}
	return s, &caller{ctx: context.Background(), tenant: policy.DefaultName}
}

func BenchmarkInject10000(b *testing.B) {
	s, c := bulkServer(b)
	body := bulkBody(10_000)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.inject(c, "", body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInjectOne(b *testing.B) {
	s, c := bulkServer(b)
	body := bulkBody(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.inject(c, "", body); err != nil {
			b.Fatal(err)
		}
	}
}

// TestInjectAllocations bounds what a recipient costs: its strings, and a share
// of its blocks.
func TestInjectAllocations(t *testing.T) {
	s, c := bulkServer(t)
	const recipients = 1000
	body := bulkBody(recipients)
	n := testing.AllocsPerRun(20, func() {
		if _, _, err := s.inject(c, "", body); err != nil {
			t.Fatal(err)
		}
	})
	if per := n / recipients; per > 4 {
		t.Errorf("%.1f allocations a recipient, want at most 4", per)
	}
}
