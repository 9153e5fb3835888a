package feedback_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	receiver "hikyaku/node/feedback"
	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

const form = "application/x-www-form-urlencoded"

// ask makes one request of the endpoint.
func ask(h http.Handler, method, path, kind, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "https://u.acme.example"+path, strings.NewReader(body))
	req.RemoteAddr = "198.51.100.9:4242"
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for _, c := range change {
		c(req)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func TestOneClick(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	h, path := d.OneClick(), "/off/"+d.keys.SealLink(s)
	multi := "multipart/form-data; boundary=b"
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n--b--\r\n"
	}
	for name, c := range map[string]struct {
		method, path, kind, body string
		status                   int
		news                     bool
	}{
		"form":                {"POST", path, form, feedback.OneClick, 200, true},
		"form with charset":   {"POST", path, form + "; charset=utf-8", feedback.OneClick, 200, true},
		"multipart":           {"POST", path, multi, part("List-Unsubscribe", "One-Click"), 200, true},
		"root":                {"POST", path[4:], form, feedback.OneClick, 200, true},
		"GET":                 {"GET", path, "", "", 200, false},
		"GET with the body":   {"GET", path, form, feedback.OneClick, 200, false},
		"GET with a query":    {"GET", path + "?" + feedback.OneClick, "", "", 200, false},
		"HEAD":                {"HEAD", path, "", "", 200, false},
		"PUT":                 {"PUT", path, form, feedback.OneClick, 405, false},
		"POST without a word": {"POST", path, form, "", 400, false},
		"POST in the query":   {"POST", path + "?" + feedback.OneClick, form, "", 400, false},
		"another word":        {"POST", path, form, "List-Unsubscribe=Two-Clicks", 400, false},
		"other part":          {"POST", path, multi, part("x", "One-Click"), 400, false},
		"no type":             {"POST", path, "", feedback.OneClick, 400, false},
		"JSON":                {"POST", path, "application/json", `{"List-Unsubscribe":"One-Click"}`, 400, false},
		"too long":            {"POST", path, form, feedback.OneClick + "&x=" + strings.Repeat("x", 64<<10), 413, false},
		"no token":            {"POST", "/", form, feedback.OneClick, 404, false},
		"cut token":           {"POST", path[:len(path)-1], form, feedback.OneClick, 404, false},
		"return path's":       {"POST", "/" + d.keys.Seal(feedback.ReturnPath, s), form, feedback.OneClick, 404, false},
	} {
		d := newDesk(t, nil)
		h := d.OneClick()
		w := ask(h, c.method, c.path, c.kind, c.body)
		got := d.took()
		if w.Code != c.status || c.news != (len(got) == 1) {
			t.Errorf("%s: %d, %+v; want %d", name, w.Code, got, c.status)
		}
		if c.news && len(got) == 1 && (got[0].Type != message.EventUnsubscribed || got[0].Recipient != "ann@example.net" || got[0].Tenant != "acme" ||
			got[0].Stream != "news" || got[0].Via != "http" || got[0].From != "198.51.100.9" || got[0].Delivery != s.Delivery) {
			t.Errorf("%s: %+v", name, got[0])
		}
		for k, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
			if w.Header().Get(k) != want {
				t.Errorf("%s: %s is %q", name, k, w.Header().Get(k))
			}
		}
		if w.Header().Get("Location") != "" || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: redirected, or given a cookie (RFC 8058 3.1)", name)
		}
	}
	for range 3 { // again and again: 200 each time, one event
		if w := ask(h, "POST", path, form, feedback.OneClick); w.Code != 200 {
			t.Errorf("again: %d", w.Code)
		}
	}
	if got := d.took(); len(got) != 1 {
		t.Errorf("again: %d events", len(got))
	}
	// Taken off the list since: what the page says is done.
	d.takenBack = true
	if w := ask(h, "POST", path, form, feedback.OneClick); w.Code != 200 || len(d.took()) != 1 {
		t.Errorf("after it was taken back: %d, and nobody was told", w.Code)
	}
}

// TestNewsAtTheSameTime: of the same news twice at once the second waits for what
// becomes of the first: it is put off with it, or known after it.
func TestNewsAtTheSameTime(t *testing.T) {
	for _, fail := range []error{nil, errors.New("the disk is full")} {
		begun, end := make(chan struct{}, 9), make(chan struct{})
		var calls atomic.Int32
		d := newDesk(t, func(o *receiver.Options) {
			o.Handle = func(context.Context, *receiver.Feedback) error {
				calls.Add(1)
				begun <- struct{}{}
				<-end
				return fail
			}
		})
		s := d.sent("ann@example.net")
		to := d.returnPath(s)
		answers := make(chan int, 2)
		for range 2 {
			go func() { answers <- codeOf(d.take("", postfix(to, "ann@example.net", "failed", "Subject: x"), to)) }()
		}
		<-begun
		close(end)
		want, most := 250, int32(1)
		if fail != nil {
			want, most = 451, 2
		}
		for range 2 {
			if got := <-answers; got != want {
				t.Errorf("fail %v: answered %d", fail, got)
			}
		}
		if n := calls.Load(); n != most {
			t.Errorf("fail %v: handled %d times", fail, n)
		}
	}
}

// TestBadTokensLookAlike: nobody learns from the answer what was wrong.
func TestBadTokensLookAlike(t *testing.T) {
	d := newDesk(t, nil)
	other, err := feedback.NewKeys([]byte(strings.Repeat("x", feedback.KeyBytes)))
	if err != nil {
		t.Fatal(err)
	}
	s := d.sent("ann@example.net")
	gone, old := *s, *s
	gone.Tenant = "gone"
	old.Delivery.Message, old.Issued = oldID(noon.Add(-200*24*time.Hour)), noon.Add(-200*24*time.Hour)
	var first *httptest.ResponseRecorder
	for _, path := range []string{"/x", "/" + other.SealLink(s), "/" + d.keys.SealLink(&gone), "/" + d.keys.SealLink(&old), "/" + d.keys.SealLink(s)[1:]} {
		for _, method := range []string{"GET", "POST"} {
			w := ask(d.OneClick(), method, path, form, feedback.OneClick)
			if first == nil {
				first = w
			}
			if w.Code != 404 || w.Body.String() != first.Body.String() || len(w.Header()) != len(first.Header()) {
				t.Errorf("%s %s: %d, another answer", method, path, w.Code)
			}
		}
	}
	if len(d.took()) != 0 {
		t.Error("a bad token unsubscribed")
	}
}

func TestPageIsSafe(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent(`<script>alert(1)</script>@"><img src=x>.example`)
	w := ask(d.OneClick(), "GET", "/"+d.keys.SealLink(s), "", "")
	page := w.Body.String()
	if w.Code != 200 || strings.Contains(page, "<script") || strings.Contains(page, "<img") {
		t.Errorf("%d: %s", w.Code, page)
	}
	if !strings.Contains(page, `<form method="post">`) || !strings.Contains(page, `value="One-Click"`) {
		t.Errorf("no button: %s", page)
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("policy %q", csp)
	}
	if got := ask(d.OneClick(), "GET", "/"+d.keys.SealLink(d.sent("ann.secret@example.net")), "", "").Body.String(); strings.Contains(got, "secret") || !strings.Contains(got, "a…@example.net") {
		t.Errorf("the page shows %s", got)
	}
}

func TestOneClickThatCannotBeStored(t *testing.T) {
	var log strings.Builder
	d := newDesk(t, func(o *receiver.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	token := d.keys.SealLink(d.sent("ann@example.net"))
	d.fail = errors.New("the disk is full")
	if w := ask(d.OneClick(), "POST", "/"+token, form, feedback.OneClick); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if strings.Contains(log.String(), token) || strings.Contains(log.String(), "ann@") || !strings.Contains(log.String(), "disk is full") {
		t.Errorf("log: %s", log.String())
	}
	d.fail = nil
	if w := ask(d.OneClick(), "POST", "/"+token, form, feedback.OneClick); w.Code != 200 || len(d.took()) != 1 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

func TestOneClickLimits(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	d := newDesk(t, func(o *receiver.Options) {
		o.Limits = receiver.Limits{Bad: 1, OneClicks: 1, ProxyNetworks: []policy.Network{{Prefix: netip.MustParsePrefix("198.51.100.0/24")}}}
	})
	h := d.OneClick()
	good := "/" + d.keys.SealLink(d.sent("ann@example.net"))
	for i := range 12 {
		w := ask(h, "GET", "/guess", "", "", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "203.0.113.1, 192.0.2.1") })
		if want := map[bool]int{true: 404, false: 429}[i < 10]; w.Code != want {
			t.Errorf("guess %d: %d, want %d", i, w.Code, want)
		}
	}
	// Nor do good links of a provider's server suffer from the old ones it tries.
	if w := ask(h, "GET", good, "", "", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }); w.Code != 200 {
		t.Errorf("a good link of a client that guesses: %d", w.Code)
	}
	// Another client behind the same proxy is not punished, nor is who claims to be
	// somebody else from outside.
	if w := ask(h, "GET", good, "", "", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.2") }); w.Code != 200 {
		t.Errorf("another client: %d", w.Code)
	}
	if w := ask(h, "GET", good, "", "", func(r *http.Request) {
		r.RemoteAddr = "203.0.113.50:1"
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
	}); w.Code != 200 {
		t.Errorf("a client that is no proxy: %d", w.Code)
	}
	// One request under way fills the only place.
	done := make(chan int)
	go func() {
		done <- ask(h, "POST", good, form, "", func(r *http.Request) { r.Body = io.NopCloser(waiting{inside, leave}) }).Code
	}()
	<-inside
	if w := ask(h, "POST", good, form, feedback.OneClick); w.Code != 503 {
		t.Errorf("with all places taken: %d", w.Code)
	}
	close(leave)
	if code := <-done; code != 400 {
		t.Errorf("the one inside: %d", code)
	}
	if m := d.Metrics(); m.Busy != 1 || m.Limited != 2 {
		t.Errorf("metrics: %+v", m)
	}
}

// waiting is a body that says when it is read, and ends when it is told.
type waiting struct{ inside, leave chan struct{} }

func (b waiting) Read([]byte) (int, error) {
	close(b.inside)
	<-b.leave
	return 0, io.EOF
}
