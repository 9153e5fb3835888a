package webhook_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/webhook"
	"hikyaku/spool/message"
)

func TestBatchesAreFullOrWaitAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.log.write(events(3, 900)...) // before the webhook was there
		w.apply(map[string]*policy.Webhook{"all": hook("hooks.test")})
		start := time.Now()
		w.log.write(events(170, 0)...)
		w.log.write(events(80, 170)...)
		time.Sleep(5 * time.Second)

		got := w.hosts["hooks.test"].got()
		if len(got) != 3 {
			t.Fatalf("%d requests, want 3", len(got))
		}
		want := 0
		for i, c := range []struct {
			events int
			after  time.Duration
			batch  string
		}{
			{100, 0, "all:ab12-4-0.4-99"},
			{100, 0, "all:ab12-4-100.174-29"},
			{50, time.Second, "all:ab12-174-30.174-79"},
		} {
			q := got[i]
			if len(q.batch.Events) != c.events || q.at.Sub(start) != c.after || q.batch.Batch != c.batch {
				t.Errorf("request %d: %d events after %v as %s, want %d after %v as %s", i, len(q.batch.Events), q.at.Sub(start), q.batch.Batch, c.events, c.after, c.batch)
			}
			if q.batch.Webhook != "all" || q.batch.Node != "n1" || q.header.Get("Hikyaku-Webhook") != "all" || q.header.Get("Hikyaku-Batch") != c.batch ||
				q.header.Get("Content-Type") != "application/json" || q.header.Get("User-Agent") != "Hikyaku/1.2" || q.path != path {
				t.Errorf("request %d: %+v %v %v", i, q.batch.Webhook, q.path, q.header)
			}
			for _, e := range q.batch.Events {
				if e["recipient"] != fmt.Sprintf("r%d@example.net", want) {
					t.Fatalf("event %d is %v", want, e["recipient"])
				}
				want++
			}
		}
		if s := w.status("all"); s.State != webhook.StateOK || s.Behind != 0 || s.Lag != 0 || s.Counts.Posted != 250 || s.Counts.Batches != 3 || s.Endpoint != "http://hooks.test" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestOnlyWhatIsWantedIsPosted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "all.test", "acme.test", "bulk.test", "both.test", "bounced.test")
		acme, bulk, both, bounced := hook("acme.test"), hook("bulk.test"), hook("both.test"), hook("bounced.test")
		acme.Tenant = "acme"
		bulk.Streams = []string{"bulk"}
		both.Tenant, both.Streams = "acme", []string{"acme/bulk", "other"}
		bounced.Events = []string{"bounced", "late-bounce"}
		w.apply(map[string]*policy.Webhook{"all": hook("all.test"), "acme": acme, "bulk": bulk, "both": both, "bounced": bounced})
		trap := event(message.EventDelivered, "evil", "news", 3)
		trap.Metadata = []byte(`{"tenant":"acme","stream":"bulk","x":{"tenant":"acme"}}`)
		w.log.write(
			event(message.EventAccepted, "acme", "bulk", 0),
			event(message.EventDelivered, "acme", "news", 1),
			event(message.EventBounced, "globex", "bulk", 2),
			trap,
			event(message.EventTransferred, "acme", "bulk", 4),
			event(message.EventReceived, "acme", "bulk", 5),
			event(message.EventLateBounce, "acme", "bulk", 6),
		)
		time.Sleep(2 * time.Second)
		for host, want := range map[string]string{
			"all.test": "0 1 2 3 6", "acme.test": "0 1 6", "bulk.test": "0 2 6", "both.test": "0 6", "bounced.test": "2 6",
		} {
			var got []string
			for _, q := range w.hosts[host].got() {
				for _, e := range q.batch.Events {
					got = append(got, fmt.Sprint(e["size"]))
				}
			}
			if s := strings.ReplaceAll(strings.Join(got, " "), "<nil>", "0"); s != want {
				t.Errorf("%s got %s, want %s", host, s, want)
			}
		}
	})
}

// verify is HMAC by its definition (RFC 2104), without the package that signs.
func verify(key, header string, body []byte) (at time.Time, err error) {
	ts, mac, ok := strings.Cut(header, ",")
	ts, ok1 := strings.CutPrefix(ts, "t=")
	mac, ok2 := strings.CutPrefix(mac, "v1=")
	sec, err := strconv.ParseInt(ts, 10, 64)
	if !ok || !ok1 || !ok2 || err != nil {
		return time.Time{}, fmt.Errorf("header %q", header)
	}
	inner, outer := [64]byte{}, [64]byte{}
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	in := sha256.Sum256(append(append(inner[:], ts+"."...), body...))
	sum := sha256.Sum256(append(outer[:], in[:]...))
	if hex.EncodeToString(sum[:]) != mac {
		return time.Time{}, errors.New("wrong signature")
	}
	return time.Unix(sec, 0), nil
}

func TestEachRequestIsSignedWhenItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test", "unsigned.test")
		plain := hook("unsigned.test")
		plain.Secret = policy.Secret{}
		plain.Authorization = policy.NewSecret("Bearer x")
		plain.Headers = map[string]string{"X-Asks": "who", "Hikyaku-Batch": "forged"}
		w.apply(map[string]*policy.Webhook{"signed": hook("hooks.test"), "unsigned": plain})
		w.hosts["hooks.test"].answer(func(n int, _ *request) (int, http.Header) {
			if n < 4 {
				return 500, nil
			}
			return 204, nil
		})
		w.log.write(events(2, 0)...)
		time.Sleep(time.Minute)
		got := w.hosts["hooks.test"].got()
		if len(got) != 4 {
			t.Fatalf("%d requests, want 4", len(got))
		}
		for i, q := range got {
			at, err := verify(secret, q.header.Get("Hikyaku-Signature"), q.body)
			if err != nil || at.Unix() != q.at.Unix() {
				t.Errorf("request %d: signed at %v, sent at %v: %v", i, at, q.at, err)
			}
			if string(q.body) != string(got[0].body) {
				t.Errorf("request %d has another body", i)
			}
			if _, err := verify(secret+"x", q.header.Get("Hikyaku-Signature"), q.body); err == nil {
				t.Error("another key verifies: the test proves nothing")
			}
		}
		q := w.hosts["unsigned.test"].got()[0]
		if q.header.Get("Hikyaku-Signature") != "" || q.header.Get("Authorization") != "Bearer x" || q.header.Get("X-Asks") != "who" || q.header.Get("Hikyaku-Batch") == "forged" {
			t.Errorf("headers %v", q.header)
		}
	})
}

// TestTwoSecretsWhileOneIsReplaced: both sign, the new one first, and the change
// is no other webhook.
func TestTwoSecretsWhileOneIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		w.log.write(events(1, 0)...)
		time.Sleep(5 * time.Second)
		both := hook("hooks.test")
		both.Secret, both.FormerSecret = policy.NewSecret("the-new-one"), both.Secret
		w.apply(map[string]*policy.Webhook{"h": both})
		w.log.write(events(1, 1)...)
		time.Sleep(5 * time.Second)
		got := w.hosts["hooks.test"].got()
		if len(got) != 2 {
			t.Fatalf("%d requests", len(got))
		}
		parts := strings.Split(got[1].header.Get("Hikyaku-Signature"), ",")
		if len(parts) != 3 {
			t.Fatalf("signature %v", parts)
		}
		for i, key := range []string{"the-new-one", secret} {
			if _, err := verify(key, parts[0]+","+parts[1+i], got[1].body); err != nil {
				t.Errorf("signature %d: %v", i, err)
			}
		}
		if strings.Contains(got[0].header.Get("Hikyaku-Signature"), parts[1]) || strings.Count(got[0].header.Get("Hikyaku-Signature"), "v1=") != 1 {
			t.Errorf("before: %s", got[0].header.Get("Hikyaku-Signature"))
		}
	})
}

func TestRetriesGrowAndStopGrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		w.hosts["hooks.test"].answer(always(500))
		w.log.write(events(1, 0)...)
		time.Sleep(time.Hour)
		got := w.hosts["hooks.test"].got()
		want := time.Second
		for i := 1; i < len(got); i++ {
			gap := got[i].at.Sub(got[i-1].at)
			if gap < want*8/10 || gap > want*12/10 {
				t.Errorf("retry %d after %v, want about %v", i, gap, want)
			}
			want = min(2*want, 5*time.Minute)
		}
		if len(got) < 16 || len(got) > 25 {
			t.Errorf("%d requests in an hour", len(got))
		}
		s := w.status("h")
		if s.State != webhook.StateOpen || s.LastError != "HTTP 500" || s.Lag < time.Hour-time.Second || s.Behind != 1 || s.NextTry.Before(time.Now()) {
			t.Errorf("status %+v", s)
		}
		w.hosts["hooks.test"].answer(nil)
		time.Sleep(6 * time.Minute)
		if s := w.status("h"); s.State != webhook.StateOK || s.Behind != 0 || s.Counts.Posted != 1 {
			t.Errorf("status afterwards %+v", s)
		}
		if n := strings.Count(w.text.String(), "webhook is not taken"); n != 1 {
			t.Errorf("the log tells %d times of one run of failures:\n%s", n, w.text)
		}
	})
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"120": 2 * time.Minute, " 5 ": 5 * time.Second, "0": 0, "": 0, "-1": 0, "soon": 0, "1.5": 0,
		"99999999999999999": time.Hour, "18446744073709551615": time.Hour, "18446744073709551616": 0,
		"Sun, 22 Nov 2026 12:10:00 GMT": 10 * time.Minute, "Sun, 22 Nov 2026 11:00:00 GMT": 0, "Sun, 22 Nov 2099 11:00:00 GMT": time.Hour,
	} {
		if got := webhook.RetryAfter(v, now); got != want {
			t.Errorf("Retry-After %q: %v, want %v", v, got, want)
		}
	}
	for _, c := range []struct {
		status int
		want   time.Duration
	}{{429, 2 * time.Minute}, {503, 2 * time.Minute}, {500, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "hooks.test")
			w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
			w.hosts["hooks.test"].answer(func(n int, _ *request) (int, http.Header) {
				if n == 1 {
					return c.status, http.Header{"Retry-After": {"120"}}
				}
				return 200, nil
			})
			w.log.write(events(1, 0)...)
			time.Sleep(10 * time.Minute)
			got := w.hosts["hooks.test"].got()
			if len(got) != 2 {
				t.Fatalf("%d requests", len(got))
			}
			if gap := got[1].at.Sub(got[0].at); gap < c.want*8/10 || gap > c.want*12/10 {
				t.Errorf("%d: again after %v, want about %v", c.status, gap, c.want)
			}
		})
	}
}

func TestABatchIsGivenUpAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		h := hook("hooks.test")
		h.MaxBatch = 10
		w.apply(map[string]*policy.Webhook{"h": h})
		r := w.hosts["hooks.test"]
		r.answer(always(500))
		w.log.write(events(20, 0)...)
		time.Sleep(12 * time.Hour)
		w.log.write(events(10, 20)...)
		time.Sleep(11*time.Hour + 50*time.Minute)
		if s := w.status("h"); s.Counts.GivenUp != 0 || s.Behind != 30 {
			t.Errorf("too early: %+v", s)
		}
		time.Sleep(20 * time.Minute)
		s := w.status("h")
		if s.Counts.GivenUp != 20 || s.GivenUp == nil || s.GivenUp.Events != 20 || s.GivenUp.First != "ab12-1-0" || s.GivenUp.Last != "ab12-1-19" || s.GivenUp.Why != "HTTP 500" {
			t.Fatalf("status %+v, range %+v", s, s.GivenUp)
		}
		if !strings.Contains(w.text.String(), "webhook events are given up") {
			t.Error("the log does not tell")
		}
		r.answer(nil)
		from := len(r.got())
		time.Sleep(6 * time.Minute)
		var late []string
		for _, q := range r.got()[from:] {
			for _, e := range q.batch.Events {
				late = append(late, fmt.Sprint(e["recipient"]))
			}
		}
		if len(late) != 10 || late[0] != "r20@example.net" {
			t.Errorf("afterwards came %v, want the ten younger ones", late)
		}
		w.hooks.Close() // what was given up is known after a restart
		w.begin()
		w.apply(map[string]*policy.Webhook{"h": h})
		if s := w.status("h"); s.Counts.GivenUp != 20 || s.GivenUp == nil {
			t.Errorf("after a restart: %+v", s)
		}
	})
}

// TestOldEventsAreTriedAsLongAsOthers: a node that was off for days must not
// give up at the first failure what nobody was ever asked to take.
func TestOldEventsAreTriedAsLongAsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		w.hooks.Close()
		w.log.write(events(5, 0)...)
		time.Sleep(72 * time.Hour)
		w.hosts["hooks.test"].answer(func(n int, _ *request) (int, http.Header) { return 503 - 303*min(n/8, 1), nil })
		w.begin()
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		time.Sleep(time.Hour)
		if s := w.status("h"); s.Counts.Posted != 5 || s.Counts.GivenUp != 0 || s.Counts.Failures != 7 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestGoneIsOffUntilChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		r := w.hosts["hooks.test"]
		h := map[string]*policy.Webhook{"h": hook("hooks.test")}
		w.apply(h)
		r.answer(always(410))
		w.log.write(events(1, 0)...)
		time.Sleep(time.Hour)
		w.log.write(events(1, 1)...)
		time.Sleep(time.Hour)
		if s := w.status("h"); len(r.got()) != 1 || s.State != webhook.StateGone || s.Since.IsZero() {
			t.Fatalf("%d requests, status %+v", len(r.got()), s)
		}
		if w.log.holds() {
			t.Error("it still holds the log")
		}
		w.hooks.Close()
		r.answer(nil)
		w.begin()
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")}) // the same
		w.log.write(events(1, 2)...)
		time.Sleep(time.Hour)
		if s := w.status("h"); len(r.got()) != 1 || s.State != webhook.StateGone {
			t.Fatalf("after a restart: %d requests, status %+v", len(r.got()), s)
		}
		other := hook("hooks.test")
		other.Headers = map[string]string{"X-New": "yes"}
		w.apply(map[string]*policy.Webhook{"h": other})
		w.log.write(events(1, 3)...)
		time.Sleep(time.Hour)
		if ids := r.ids(); len(ids) != 2 || ids[1] != "ab12-4-0" {
			t.Errorf("events %v, want the first and the last", ids)
		}
		if s := w.status("h"); s.State != webhook.StateOK {
			t.Errorf("status %+v", s)
		}
	})
}

// TestACrashRepeatsButNeverLoses kills the node between a request and the write
// of the place, at each of many moments.
func TestACrashRepeatsButNeverLoses(t *testing.T) {
	repeated := 0
	for at := range 12 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "hooks.test")
			r := w.hosts["hooks.test"]
			h := map[string]*policy.Webhook{"h": hook("hooks.test")}
			w.apply(h)
			for i := range 10 {
				w.log.write(events(70, 70*i)...)
				time.Sleep(300 * time.Millisecond)
				if i == at%10 {
					if at >= 10 {
						r.answer(always(500)) // killed while it fails
						time.Sleep(time.Second)
						r.answer(nil)
					}
					w.crash()
					w.apply(h)
				}
			}
			time.Sleep(time.Minute)
			seen := map[string]string{}
			total := 0
			for _, q := range r.got() {
				for _, e := range q.batch.Events {
					total++
					id, to := e["event_id"].(string), fmt.Sprint(e["recipient"])
					if was, ok := seen[id]; ok && was != to {
						t.Errorf("id %s is %s and %s", id, was, to)
					}
					seen[id] = to
				}
			}
			if len(seen) != 700 {
				t.Errorf("crash %d: %d different events came, want 700", at, len(seen))
			}
			repeated += total - len(seen)
		})
	}
	// The negative control: without ids the receiver would count these twice.
	if repeated == 0 {
		t.Error("no crash repeated anything: the test does not hit the moment between request and place")
	}
}

// TestAnOrderlyStopRepeatsNothing stops while an answer is under way, each time at
// another moment of it.
func TestAnOrderlyStopRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		r := w.hosts["hooks.test"]
		r.answer(func(n int, _ *request) (int, http.Header) {
			time.Sleep(time.Duration(n%5) * 300 * time.Millisecond)
			return 200, nil
		})
		h := map[string]*policy.Webhook{"h": hook("hooks.test")}
		w.apply(h)
		for i := range 8 {
			w.log.write(events(230, 230*i)...)
			time.Sleep(350 * time.Millisecond)
			w.hooks.Close()
			w.begin()
			w.apply(h)
		}
		time.Sleep(time.Minute)
		ids := r.ids()
		all := len(ids)
		slices.Sort(ids)
		if n := len(slices.Compact(ids)); all != 8*230 || n != all {
			t.Errorf("%d events, %d different, want %d", all, n, 8*230)
		}
	})
}

// An orderly stop does not wait for an endpoint that hangs, and what that has not
// taken comes again.
func TestAnOrderlyStopDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		r := w.hosts["hooks.test"]
		r.block = make(chan struct{})
		h := map[string]*policy.Webhook{"h": hook("hooks.test")}
		w.apply(h)
		w.log.write(events(5, 0)...)
		time.Sleep(2 * time.Second)
		start := time.Now()
		w.hooks.Close()
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("closed after %v", d)
		}
		close(r.block)
		w.begin()
		w.apply(h)
		time.Sleep(2 * time.Second)
		if got := r.got(); len(got) != 2 || got[0].batch.Batch != got[1].batch.Batch {
			t.Errorf("%d requests", len(got))
		}
		// That one webhook goes is no reason to wait for its endpoint.
		r.mu.Lock()
		r.block = make(chan struct{})
		r.mu.Unlock()
		defer close(r.block)
		w.log.write(events(5, 5)...)
		time.Sleep(2 * time.Second)
		start = time.Now()
		w.apply(map[string]*policy.Webhook{})
		synctest.Wait()
		if s := w.hooks.Status(); len(s) != 0 || time.Since(start) != 0 {
			t.Errorf("%v after its resource was deleted: %+v", time.Since(start), s)
		}
	})
}

func TestASlowEndpointSlowsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "slow.test", "fast.test")
		w.hosts["slow.test"].block = make(chan struct{})
		w.apply(map[string]*policy.Webhook{"slow": hook("slow.test"), "fast": hook("fast.test")})
		start := time.Now()
		for i := range 300 {
			w.log.write(events(10, 10*i)...)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		got := w.hosts["fast.test"].got()
		n := 0
		for _, q := range got {
			for _, e := range q.batch.Events {
				n++
				at, err := time.Parse(time.RFC3339Nano, e["time"].(string))
				if err != nil || q.at.Sub(at) > time.Second {
					t.Fatalf("an event came %v late: %v", q.at.Sub(at), err)
				}
			}
		}
		if n != 3000 {
			t.Errorf("%d events after %v, want 3000", n, time.Since(start))
		}
		s := w.status("slow")
		if s.Counts.Posted != 0 || s.State != webhook.StateRetrying || s.Behind != 3000 || !strings.Contains(s.LastError, "deadline exceeded") {
			t.Errorf("slow: %+v", s)
		}
		close(w.hosts["slow.test"].block)
		time.Sleep(5 * time.Minute)
		if s := w.status("slow"); s.Counts.Posted != 3000 || s.Behind != 0 {
			t.Errorf("slow afterwards: %+v", s)
		}
	})
}

func TestBreakerIsSharedByThoseWithTheSameURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test", "other.test")
		r := w.hosts["hooks.test"]
		r.answer(always(502))
		hooks := map[string]*policy.Webhook{"elsewhere": hook("other.test")}
		for i := range 10 {
			h := hook("hooks.test")
			h.MaxBatch = i + 1
			hooks[fmt.Sprintf("h%d", i)] = h
		}
		w.apply(hooks)
		w.log.write(events(1, 0)...)
		time.Sleep(10 * time.Minute)
		from := len(r.got())
		time.Sleep(time.Hour)
		got := r.got()[from:]
		if len(got) < 10 || len(got) > 16 {
			t.Errorf("%d requests in an hour from ten webhooks, want those of one", len(got))
		}
		if s := w.status("elsewhere"); s.State != webhook.StateOK || s.Counts.Posted != 1 {
			t.Errorf("another URL: %+v", s)
		}
		r.answer(nil)
		time.Sleep(7 * time.Minute)
		for name := range hooks {
			if s := w.status(name); s.State != webhook.StateOK || s.Counts.Posted != 1 {
				t.Errorf("%s afterwards: %+v", name, s)
			}
		}
	})
}

func TestPolicyChangesAreLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "old.test", "new.test")
		w.apply(map[string]*policy.Webhook{"h": hook("old.test")})
		w.hosts["old.test"].answer(always(500))
		w.log.write(events(3, 0)...)
		time.Sleep(time.Hour) // deep in its retries
		w.apply(map[string]*policy.Webhook{"h": hook("new.test")})
		time.Sleep(time.Second)
		if got := w.hosts["new.test"].ids(); len(got) != 3 {
			t.Fatalf("a new URL got %v at once, want what waited", got)
		}

		off := hook("new.test")
		off.Disabled = true
		w.apply(map[string]*policy.Webhook{"h": off})
		if s := w.status("h"); s.State != webhook.StateDisabled || w.log.holds() {
			t.Errorf("disabled: %+v, the log is held: %v", s, w.log.holds())
		}
		w.log.write(events(2, 3)...)
		time.Sleep(time.Minute)
		w.apply(map[string]*policy.Webhook{"h": hook("new.test")})
		w.log.write(events(1, 5)...)
		time.Sleep(time.Minute)
		if got := w.hosts["new.test"].ids(); len(got) != 4 || got[3] != "ab12-6-0" {
			t.Errorf("events %v: those of the time off must not be there", got)
		}
	})
}

func TestAWebhookThatIsGoneIsForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		h := map[string]*policy.Webhook{"h": hook("hooks.test")}
		w.apply(h)
		w.hooks.Close()
		w.begin()
		w.log.write(events(4, 0)...)
		w.apply(nil) // the node has no policy yet
		time.Sleep(webhook.OrphanGrace / 2)
		w.apply(h)
		time.Sleep(5 * time.Second)
		if got := w.hosts["hooks.test"].ids(); len(got) != 4 {
			t.Errorf("%d events after a start without policy, want 4", len(got))
		}
		w.apply(nil)
		time.Sleep(webhook.OrphanGrace + 2*time.Minute)
		if w.log.holds() {
			t.Error("its place is kept for ever")
		}
		if s := w.hooks.Status(); len(s) != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestALogThatCannotBeReadIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		w.log.fail(errors.New("disk on fire"))
		time.Sleep(time.Second)
		if s := w.status("h"); s.State != webhook.StateBroken || s.LastError != "disk on fire" {
			t.Errorf("status %+v", s)
		}
		w.log.fail(nil)
		w.log.write(events(1, 0)...)
		time.Sleep(time.Minute)
		if s := w.status("h"); s.State != webhook.StateOK || s.Counts.Posted != 1 {
			t.Errorf("status afterwards %+v", s)
		}
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		h := hook("hooks.test")
		h.Disabled = true
		w.apply(map[string]*policy.Webhook{"h": h})
		got, err := w.hooks.Test(t.Context(), "h")
		if err != nil || got.Status != 200 || got.Error != "" {
			t.Fatalf("%+v, %v", got, err)
		}
		q := w.hosts["hooks.test"].got()[0]
		if _, err := verify(secret, q.header.Get("Hikyaku-Signature"), q.body); err != nil {
			t.Error(err)
		}
		if len(q.batch.Events) != 1 || q.batch.Events[0]["type"] != "ping" || q.batch.Events[0]["event_id"] != q.batch.Batch {
			t.Errorf("body %s", q.body)
		}
		w.hosts["hooks.test"].answer(always(404))
		if got, err := w.hooks.Test(t.Context(), "h"); err != nil || got.Status != 404 || got.Error != "HTTP 404" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := w.hooks.Test(t.Context(), "x"); !errors.Is(err, webhook.ErrUnknown) {
			t.Errorf("unknown webhook: %v", err)
		}
	})
}

func TestAnUnreadableLineStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		bad := event(message.EventDelivered, "acme", "bulk", 1)
		bad.Metadata = []byte("{\n\"a\":") // two lines: the beginning of an event, and something that is none
		w.log.write(event(message.EventDelivered, "acme", "bulk", 0), bad, event(message.EventDelivered, "acme", "bulk", 2))
		time.Sleep(5 * time.Second)
		got := w.hosts["hooks.test"].got()
		if len(got) != 1 || len(got[0].batch.Events) != 2 || got[0].batch.Events[1]["recipient"] != "r2@example.net" {
			t.Errorf("%d requests: %s", len(got), got[0].body)
		}
		if s := w.status("h"); s.Counts.Unreadable != 2 || s.State != webhook.StateOK || !strings.Contains(w.text.String(), "not JSON") {
			t.Errorf("status %+v", s)
		}
	})
}
