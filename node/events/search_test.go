package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/spool/message"
)

// searchLog holds lines that differ in every field that can be asked for.
func searchLog(t testing.TB, o *outbox, l *Log) {
	t.Helper()
	for i := range 40 {
		o.commit(event(i, func(e *message.Event) {
			switch {
			case i == 3:
				e.Recipient, e.Destination = "Hanako@Docomo.ne.jp", "docomo.ne.jp"
			case i == 5:
				e.Type, e.Reply = message.EventBounced, message.Reply{Code: 550, Text: `"quoted" no user3@example.com here`, Phase: message.PhaseRcpt}
			case i == 7:
				e.Sender = `"odd name"@shop.example`
			case i == 9:
				e.Tenant, e.Stream, e.Job, e.Carrier, e.Source = "bank", "otp", "j9", "softbank", "b2"
			case i == 11:
				e.Metadata = []byte(`{"recipient":"hidden@example.com","tenant":"bank"}`)
			case i == 13:
				e.Recipient = "ユーザ@example.com"
			}
		}))
	}
	flush(t, l)
}

func TestSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		l := o.open(t, fs, func(o *Options) { o.BlockBytes = 2000; o.SegmentBytes = 4000 })
		searchLog(t, o, l)
		var id string
		_, err := l.Search(t.Context(), Query{Tag: "n20"}, func(r *message.EventRecord, _ []byte) error { id = r.ID.String(); return nil })
		if err != nil || id == "" {
			t.Fatalf("search by tag: %q, %v", id, err)
		}
		at := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
		for _, c := range []struct {
			name string
			q    Query
			want string
		}{
			{"message id", Query{ID: strings.ToUpper(id[:26])}, "n20"},
			{"delivery id", Query{ID: id}, "n20"},
			{"other delivery", Query{ID: id[:26] + "-1"}, ""},
			{"recipient", Query{Recipient: "user4@EXAMPLE.com"}, "n4"},
			{"recipient in reply text only", Query{Recipient: "user3@example.com"}, ""},
			{"recipient local part is exact", Query{Recipient: "hanako@docomo.ne.jp"}, ""},
			{"recipient folded domain", Query{Recipient: "Hanako@docomo.ne.jp"}, "n3"},
			{"recipient of a domain", Query{Recipient: "@docomo.ne.jp"}, "n3"},
			{"recipient in metadata only", Query{Recipient: "hidden@example.com"}, ""},
			{"recipient in UTF-8", Query{Recipient: "ユーザ@example.com"}, "n13"},
			{"sender with quotes", Query{Sender: `"odd name"@shop.example`}, "n7"},
			{"tenant", Query{Tenant: "bank"}, "n9"},
			{"stream and job", Query{Stream: "otp", Job: "j9"}, "n9"},
			{"carrier", Query{Carrier: "softbank"}, "n9"},
			{"source", Query{Source: "b2"}, "n9"},
			{"type", Query{Type: "bounced"}, "n5"},
			{"types", Query{Type: "bounced,deferred"}, "n5"},
			{"destination", Query{Destination: "Docomo.NE.jp"}, "n3"},
			{"since and until", Query{Since: at(30), Until: at(32)}, "n30 n31"},
			{"limit", Query{Limit: 2}, "n0 n1"},
			{"nothing", Query{Tag: "n999"}, ""},
		} {
			var got []string
			found, err := l.Search(t.Context(), c.q, func(r *message.EventRecord, line []byte) error {
				got = append(got, r.Tags[0])
				if !bytes.Contains(line, []byte(r.Tags[0])) {
					t.Errorf("%s: line %q is not the record's", c.name, line)
				}
				return nil
			})
			if s := strings.Join(got, " "); err != nil || s != c.want || found.Matches != len(got) {
				t.Errorf("%s: %q, want %q (%+v, %v)", c.name, s, c.want, found, err)
			}
		}
		found, err := l.Search(t.Context(), Query{ID: id}, func(*message.EventRecord, []byte) error { return nil })
		if err != nil || found.BlocksSkipped == 0 {
			t.Errorf("search by id decompressed everything: %+v, %v", found, err)
		}
		for _, bad := range []Query{{ID: "nonsense"}, {Type: "exploded"}} {
			if _, err := l.Search(t.Context(), bad, nil); err == nil {
				t.Errorf("%+v: no error", bad)
			}
		}
		stop := errors.New("stop")
		if _, err := l.Search(t.Context(), Query{}, func(*message.EventRecord, []byte) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("error of fn: %v", err)
		}
		closeLog(t, l)
	})
}

func TestSearchDirOffline(t *testing.T) {
	dir := t.TempDir()
	o := newOutbox()
	l := o.open(t, nil, func(o *Options) {
		o.Dir = dir
		o.SegmentBytes = 3000
		o.BlockBytes = 1000
		o.SyncInterval = time.Millisecond
	})
	searchLog(t, o, l)
	closeLog(t, l)
	var got []string
	found, err := SearchDir(t.Context(), dir, Query{Tenant: "bank"}, func(r *message.EventRecord, _ []byte) error {
		got = append(got, r.Tags[0])
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"n9"}) {
		t.Errorf("offline search: %v %+v %v", got, found, err)
	}
	if _, err := SearchDir(t.Context(), t.TempDir(), Query{}, nil); err == nil {
		t.Error("a directory without segments: no error")
	}
}

func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		l := o.open(t, newMemFS(), func(o *Options) { o.SegmentBytes = 2000; o.BlockBytes = 1000 })
		for i := range 5 {
			o.commit(event(i, nil))
		}
		flush(t, l)
		follow := func(q Query) (got chan string, done chan error, stop context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			got, done = make(chan string, 100), make(chan error, 1)
			go func() {
				_, err := l.Tail(ctx, q, func(r *message.EventRecord, _ []byte) error { got <- r.Tags[0]; return nil })
				close(got)
				done <- err
			}()
			return got, done, cancel
		}
		now, nowDone, stopNow := follow(Query{})
		since, sinceDone, stopSince := follow(Query{Since: epoch.Add(3 * time.Second)})
		limited, limitedDone, stopLimited := follow(Query{Limit: 2})
		defer stopLimited()
		synctest.Wait()
		for i := 5; i < 30; i++ {
			o.commit(event(i, nil))
			if i%6 == 0 {
				flush(t, l)
			}
		}
		flush(t, l)
		synctest.Wait()
		stopNow()
		stopSince()
		check := func(name string, got chan string, done chan error, from, to int, want error) {
			t.Helper()
			var all []string
			for s := range got {
				all = append(all, s)
			}
			if !slices.Equal(all, wantTags(to)[from:]) {
				t.Errorf("%s: %v, want n%d to n%d", name, all, from, to-1)
			}
			if err := <-done; !errors.Is(err, want) {
				t.Errorf("%s ended with %v, want %v", name, err, want)
			}
		}
		check("from now", now, nowDone, 5, 30, context.Canceled)
		check("since", since, sinceDone, 3, 30, context.Canceled)
		check("limited", limited, limitedDone, 5, 7, nil)
		closed, closedDone, stopClosed := follow(Query{})
		defer stopClosed()
		synctest.Wait()
		closeLog(t, l)
		check("closed log", closed, closedDone, 0, 0, ErrClosed)
	})
}

// readAll reads what a consumer has not committed.
func readAll(t *testing.T, r *Reader, commit bool) (got []string) {
	t.Helper()
	for {
		b, err := r.tryNext()
		if err != nil {
			return got
		}
		for line := range bytes.Lines(b.Lines) {
			_, tag, _ := bytes.Cut(line, []byte(`"tags":["`))
			tag, _, _ = bytes.Cut(tag, []byte(`"`))
			got = append(got, string(tag))
		}
		if commit {
			if err := r.Commit(b); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		small := func(o *Options) { o.SegmentBytes = 1500; o.BlockBytes = 500 }
		l := o.open(t, fs, small)
		for i := range 10 {
			o.commit(event(i, nil))
		}
		flush(t, l)
		hook, err := l.Reader("webhook", FromOldest)
		if err != nil {
			t.Fatal(err)
		}
		late, err := l.Reader("late", FromNow)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Reader("webhook", FromOldest); err == nil {
			t.Error("two readers of one consumer")
		}
		if _, err := l.Reader("../x", FromOldest); err == nil {
			t.Error("a bad name was taken")
		}
		if got := readAll(t, hook, true); !slices.Equal(got, wantTags(10)) {
			t.Errorf("webhook read %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := hook.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next at the end: %v", err)
		}
		for i := 10; i < 20; i++ {
			o.commit(event(i, nil))
		}
		flush(t, l)
		b, err := hook.Next(t.Context())
		if err != nil || b.First != 11 {
			t.Fatalf("Next: %+v, %v", b, err)
		}
		if got := readAll(t, late, true); !slices.Equal(got, wantTags(20)[10:]) {
			t.Errorf("late read %v", got)
		}
		closeLog(t, l)

		// What was not committed comes again after a restart, with nothing lost.
		l = o.open(t, fs, small)
		hook, err = l.Reader("webhook", FromNow)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, hook, true); !slices.Equal(got, wantTags(20)[10:]) {
			t.Errorf("after restart webhook read %v", got)
		}
		if c := l.Metrics().Consumers; len(c) != 2 || c[1].Name != "webhook" || c[1].Behind != 0 || c[1].Lost != 0 {
			t.Errorf("consumers %+v", c)
		}
		if err := l.Forget("webhook"); err == nil {
			t.Error("forgot a consumer that is being read")
		}
		hook.Close()
		if err := l.Forget("webhook"); err != nil {
			t.Error(err)
		}
		closeLog(t, l)
	})
}

func TestRetention(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*Options)
		consumer bool
		lost     bool
		kept     bool // everything is still there
	}{
		{"by age", func(o *Options) { o.Retention = time.Hour }, false, false, false},
		{"by bytes", func(o *Options) { o.RetentionBytes = 2000; o.HardBytes = 1 << 40 }, false, false, false},
		{"within both", func(*Options) {}, false, false, true},
		{"held by a consumer", func(o *Options) { o.Retention = time.Hour; o.RetentionBytes = 2000; o.HardBytes = 1 << 40 }, true, false, true},
		{"hard cap", func(o *Options) { o.RetentionBytes = 1000; o.HardBytes = 2000 }, true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := newMemFS()
				o := newOutbox()
				shift := time.Since(epoch) // events are of now
				l := o.open(t, fs, func(o *Options) {
					o.SegmentBytes, o.BlockBytes = 600, 400
					o.Now = func() time.Time { return time.Now().Add(-shift) }
					c.change(o)
				})
				var r *Reader
				for i := range 20 {
					o.commit(event(i, nil))
					flush(t, l)
					if i == 1 && c.consumer {
						var err error
						if r, err = l.Reader("slow", FromOldest); err != nil {
							t.Fatal(err)
						}
					}
				}
				time.Sleep(3 * time.Hour)
				if got := tags(t, l); c.kept != slices.Equal(got, wantTags(20)) {
					t.Errorf("%d lines left: %v; %+v", len(got), got, l.Metrics())
				}
				if c.consumer {
					got := readAll(t, r, true)
					lost := l.Metrics().Consumers[0].Lost
					if (lost > 0) != c.lost || int(lost)+len(got) != 20 {
						t.Errorf("consumer read %d lines and lost %d of 20", len(got), lost)
					}
					time.Sleep(3 * time.Hour) // now nobody needs them
					if c.name == "held by a consumer" && len(tags(t, l)) == 20 {
						t.Error("segments stay although the consumer has read them")
					}
				}
				closeLog(t, l)
			})
		})
	}
}

// Write is on the path of each message.
func TestWriteAllocates(t *testing.T) {
	o := newOutbox()
	l := o.open(t, newMemFS(), func(o *Options) { o.BufferBytes = 1 << 30; o.BlockBytes = 1 << 30; o.SyncInterval = time.Second })
	defer closeLog(t, l)
	line := event(1, nil)
	l.mu.Lock()
	l.mu.fill.lines = make([]byte, 0, 4<<20)
	l.mu.fill.marks = make([]mark, 0, 1<<16)
	l.mu.Unlock()
	seq := uint64(0)
	if n := testing.AllocsPerRun(1000, func() { seq++; l.Write(seq, line) }); n > 0 {
		t.Errorf("Write allocates %v times", n)
	}
}

func benchLog(b *testing.B, megabytes int) (*Log, int64) {
	o := newOutbox()
	l := o.open(b, newMemFS(), func(o *Options) {
		o.BufferBytes = 1 << 30
		o.Acked = nil
		o.SyncInterval = time.Millisecond
	})
	total := int64(0)
	for i, seq := 0, uint64(0); total < int64(megabytes)<<20; i++ {
		line := event(i, func(e *message.Event) {
			e.Host, e.HostAddr, e.TLS = "mx1.example.com", "192.0.2.1:25", "TLS1.3 TLS_AES_128_GCM_SHA256 verified"
			e.Stages = message.Stages{Queued: time.Duration(i), Connect: 12345678, Data: time.Duration(i * 1000), Total: 98765432}
			e.Destination = fmt.Sprintf("d%d.example", i%5000)
		})
		total += int64(len(line))
		seq++
		l.Write(seq, line)
	}
	flush(b, l)
	return l, total
}

func BenchmarkSearchRecipient(b *testing.B) {
	l, total := benchLog(b, 64)
	b.SetBytes(total)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		_, err := l.Search(b.Context(), Query{Recipient: "user4711@example.com", Type: "delivered"}, func(*message.EventRecord, []byte) error { n++; return nil })
		if err != nil || n != 1 {
			b.Fatal(n, err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(total)/float64(l.Metrics().DiskBytes), "ratio")
	_ = l.Close()
}

func BenchmarkSearchDestination(b *testing.B) {
	l, total := benchLog(b, 64)
	b.SetBytes(total)
	for b.Loop() {
		n := 0
		_, err := l.Search(b.Context(), Query{Destination: "d77.example", Type: "delivered"}, func(*message.EventRecord, []byte) error { n++; return nil })
		if err != nil || n == 0 {
			b.Fatal(n, err)
		}
	}
	b.StopTimer()
	_ = l.Close()
}

func BenchmarkWriteBlock(b *testing.B) {
	var lines []byte
	for i := 0; len(lines) < 1<<20; i++ {
		lines = append(lines, event(i, nil)...)
	}
	e := newEncoder()
	b.SetBytes(int64(len(lines)))
	var out []byte
	for b.Loop() {
		out = e.append(out[:0], &header{first: 1, last: 2}, lines, epoch)
	}
}
