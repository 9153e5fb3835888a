package message

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

func TestIDsNeverRepeatAndNeverGoDown(t *testing.T) {
	var g IDs
	start := time.UnixMilli(1_790_000_000_000)
	last := g.New(start)
	for i := range 10_000 {
		// The clock stands still, jumps ahead and falls back.
		now := start.Add(time.Duration(i%7-3) * time.Second)
		id := g.New(now)
		if bytes.Compare(id[:], last[:]) <= 0 {
			t.Fatalf("id %d: %s after %s", i, id, last)
		}
		last = id
	}
}

func TestIDsAreUniqueAcrossGoroutines(t *testing.T) {
	var g IDs
	var wg sync.WaitGroup
	lists := make([][]ID, 8)
	for i := range lists {
		wg.Go(func() {
			for range 2000 {
				lists[i] = append(lists[i], g.New(time.Now()))
			}
		})
	}
	wg.Wait()
	seen := map[ID]bool{}
	for _, l := range lists {
		for _, id := range l {
			if seen[id] {
				t.Fatalf("%s given out twice", id)
			}
			seen[id] = true
		}
	}
}

func TestIDTextKeepsOrderAndTime(t *testing.T) {
	var g IDs
	at := time.UnixMilli(1_790_000_123_456)
	id := g.New(at)
	if !id.Time().Equal(at) {
		t.Errorf("time of %s is %v, want %v", id, id.Time(), at)
	}
	back, err := ParseID(strings.ToUpper(id.String()))
	if err != nil || back != id {
		t.Errorf("ParseID(%s) = %s, %v", id, back, err)
	}
	later := g.New(at.Add(time.Millisecond))
	if id.String() >= later.String() {
		t.Errorf("text order: %s is not before %s", id, later)
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{"", "01", strings.Repeat("0", 25), strings.Repeat("0", 27), strings.Repeat("u", 26),
		"8" + strings.Repeat("0", 25), strings.Repeat("0", 25) + "\x00", strings.Repeat("0", 25) + "é"[:1]} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v, want an error", s, id)
		}
	}
	for _, s := range []string{strings.Repeat("0", 26), strings.Repeat("0", 26) + "-", strings.Repeat("0", 26) + "-65536", strings.Repeat("0", 26) + "--1", "x-1"} {
		if id, err := ParseDeliveryID(s); err == nil {
			t.Errorf("ParseDeliveryID(%q) = %v, want an error", s, id)
		}
	}
}

func FuzzParseDeliveryID(f *testing.F) {
	f.Add(strings.Repeat("0", 26) + "-7")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseDeliveryID(s)
		if err != nil {
			return
		}
		again, err := ParseDeliveryID(id.String())
		if err != nil || again != id {
			t.Fatalf("%q parsed as %v, which reads back as %v, %v", s, id, again, err)
		}
	})
}

func TestEnhanced(t *testing.T) {
	for _, s := range []string{"2.0.0", "5.1.1", "4.7.999"} {
		if e, ok := ParseEnhanced(s); !ok || e.String() != s {
			t.Errorf("ParseEnhanced(%q) = %v, %v", s, e, ok)
		}
	}
	for _, s := range []string{"", "5.1", "3.1.1", "5.1.1.1", "5.-1.1", "5.1000.1", "5.1.x", "55.1.1", "5..1"} {
		if e, ok := ParseEnhanced(s); ok {
			t.Errorf("ParseEnhanced(%q) = %v, want refusal", s, e)
		}
	}
}

func TestReplyClass(t *testing.T) {
	for code, want := range map[uint16]Class{250: Success, 251: Success, 421: Temporary, 450: Temporary, 550: Permanent, 354: Temporary, 0: Temporary} {
		if got := (&Reply{Code: code}).Class(); got != want {
			t.Errorf("class of %d is %v, want %v", code, got, want)
		}
	}
}

func TestScopeMatchesQueue(t *testing.T) {
	q := QueueKey{Destination: "example.com", Tenant: "a", Stream: "bulk", Job: "j1"}
	for _, c := range []struct {
		s    Scope
		want bool
	}{
		{Scope{}, true}, {Scope{Destination: "example.com"}, true}, {Scope{Destination: "example.org"}, false},
		{Scope{Tenant: "a", Job: "j1"}, true}, {Scope{Tenant: "a", Job: "j2"}, false}, {Scope{Pool: "p"}, false},
	} {
		if got := c.s.MatchesQueue(&q); got != c.want {
			t.Errorf("%+v matches %v, want %v", c.s, got, c.want)
		}
	}
}

func sampleEvent() Event {
	return Event{Type: EventDeferred, Time: time.UnixMicro(1_790_000_000_123_456), ID: DeliveryID{ID{1, 2, 3}, 9}, Node: "n1",
		Tenant: "acme", Stream: "bulk", Pool: "p", Job: "j", Tags: []string{"a", "b\"c"}, Metadata: []byte(`{"k":1}`), RcptMeta: []byte(`{"u":2}`),
		Sender: "s@example.com", Recipient: "r@例え.test", Destination: "xn--r8jz45g.test", Carrier: "docomo", Source: "ip1", SourceAddr: "192.0.2.1",
		Host: "mx", HostAddr: "192.0.2.9:25", Attempt: 2, Size: 4096,
		Reply: Reply{Code: 550, Enhanced: Enhanced{5, 1, 1}, Text: "no\nsuch\tuser \x1b[31m", Phase: PhaseRcpt},
		TLS:   "TLS1.3", NextDue: time.UnixMicro(1_790_000_300_000_001), Stages: Stages{Total: time.Second, Mail: time.Millisecond}}
}

func TestEventJSONReadsBack(t *testing.T) {
	e := sampleEvent()
	line := e.AppendJSON(nil)
	if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
		t.Fatalf("not one line: %q", line)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var r EventRecord
	if err := dec.Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	if r.Type != e.Type || !r.Time.Equal(e.Time) || r.ID != e.ID || r.Recipient != e.Recipient || !slices.Equal(r.Tags, e.Tags) ||
		*r.Reply != e.Reply || string(r.Metadata) != `{"k":1}` || !r.NextDue.Equal(e.NextDue) || r.StagesUS["mail"] != 1000 {
		t.Errorf("read back %+v from %s", r, line)
	}
}

func FuzzEventJSON(f *testing.F) {
	f.Add("r@example.com", "550 \xff\x00\x7f \"\\ end")
	f.Fuzz(func(t *testing.T, rcpt, text string) {
		e := sampleEvent()
		e.Recipient, e.Reply.Text = rcpt, text
		line := e.AppendJSON(nil)
		if !json.Valid(line) || !utf8.Valid(line) || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line of JSON: %q", line)
		}
		for _, c := range line[:len(line)-1] {
			if c < 0x20 || c == 0x7f {
				t.Fatalf("control byte %#x in %q", c, line)
			}
		}
		var r EventRecord
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(text) && r.Reply.Text != text {
			t.Fatalf("text %q read back as %q", text, r.Reply.Text)
		}
	})
}

func TestEventJSONAllocatesNothing(t *testing.T) {
	e := sampleEvent()
	e.Reply.Enhanced = Enhanced{}
	buf := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() { buf = e.AppendJSON(buf[:0]) }); n != 0 {
		t.Errorf("%v allocations a record, want 0", n)
	}
}

// TestEventTimesAreRFC3339: the digits are made by hand, for all times alike.
func TestEventTimesAreRFC3339(t *testing.T) {
	tokyo := time.FixedZone("", 9*3600)
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Date(2024, 2, 29, 23, 59, 59, 999_999_999, time.UTC), time.Date(2026, 11, 22, 5, 4, 3, 1000, tokyo),
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 10_000, time.UTC), time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		e := Event{Type: EventAccepted, Time: at, NextDue: at}
		text := at.UTC().Format("2006-01-02T15:04:05.000000Z")
		line := string(e.AppendJSON(nil))
		if !strings.Contains(line, `"time":"`+text+`"`) || (!at.IsZero() && !strings.Contains(line, `"next_due":"`+text+`"`)) {
			t.Errorf("%v: want %s in %s", at, text, line)
		}
	}
}
