package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

func TestSubmitBuiltMessage(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	a := do(t, s, call{body: `{
		"from": {"email": "news@acme.example", "name": "飛脚"}, "reply_to": {"email": "help@acme.example"},
		"subject": "{{name}}様 \/ \u3042", "text": "t {{points}}", "html": "<p>{{points}}</p><img src=\"cid:i\">",
		"headers": [{"name": "List-Unsubscribe", "value": "<https://u.example/{{id}}>"}],
		"attachments": [{"name": "請求書.pdf", "content": "JVBE\/g=="}], "inline": [{"content_id": "i", "content_type": "image/png", "content": "AQID"}],
		"to": [{"email": "taro@x.example", "name": "太郎", "vars": { "points" : [1 , 2], "points": 3 }, "metadata": {"u": 1}},
			{"email": "bad address"}, {"email": "hanako@日本.example", "vars": {"points": 2}, "name": "花子"}, {"email": "taro@x.example", "vars": {"points": 1}, "name": "x"},
			{"email": "nobody@x.example", "name": "no points"}],
		"envelope_from": "bounce+1@mail.acme.example", "stream": "bulk", "pool": "default", "job": "nov", "tags": ["a", "b"], "priority": "high",
		"send_at": "2099-01-01T00:00:00Z", "metadata": { "k" : "v\n" }, "missing": "error"}`})
	if a.status != 422 || len(a.decoded.Details) != 1 || a.decoded.Details[0].Path != "send_at" {
		t.Fatalf("send_at in 2099: %d %s", a.status, a.body)
	}
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	body := `{"from": {"email": "news@acme.example", "name": "飛脚"}, "subject": "{{name}}様", "text": "t {{points}}",
		"to": [{"email": "taro@x.example", "name": "太郎", "vars": { "points" : 3 }, "metadata": {"u": 1}},
			{"email": "bad address"}, {"email": "hanako@日本.example", "vars": {"points": 2}, "name": "花子"}, {"email": "taro@x.example", "vars": {"points": 1}, "name": "x"},
			{"email": "nobody@x.example", "name": "no points"}],
		"envelope_from": "bounce+1@mail.acme.example", "stream": "bulk", "job": "nov", "tags": ["a", "b"], "priority": "high",
		"send_at": "` + at.Format(time.RFC3339) + `", "expires_at": "` + at.Add(time.Hour).Format(time.RFC3339) + `", "metadata": { "k" : "v\n" }}`
	a = do(t, s, call{body: body})
	if a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	subs := n.accepted()
	if len(subs) != 1 {
		t.Fatalf("%d submissions", len(subs))
	}
	sub, m := subs[0], subs[0].Message
	want := ingest.SubmitAnswer{Job: "nov",
		Messages: []ingest.SubmittedMessage{{ID: message.DeliveryID{Message: m.ID}, Email: "taro@x.example"}, {ID: message.DeliveryID{Message: m.ID, Index: 1}, Email: "hanako@日本.example"}},
		Rejected: []ingest.RejectedRecipient{
			{Email: "bad address", Error: "not an address that mail can be sent to (RFC 5321 4.1.2)", Path: "to[1]"},
			{Email: "taro@x.example", Error: "duplicate: the address was given before", Path: "to[3]"},
			{Email: "nobody@x.example", Error: "text: {{points}}: the recipient has no such variable", Path: "to[4]"},
		}}
	if diff := cmp.Diff(want, a.decoded.SubmitAnswer); diff != "" {
		t.Error(diff)
	}
	m.ID, m.Accepted, m.Template.Date = message.ID{}, time.Time{}, time.Time{}
	wantMessage := &message.Message{Sender: "bounce+1@mail.acme.example", Tenant: "acme", Stream: "bulk", Job: "nov", Priority: message.High,
		Tags: []string{"a", "b"}, Metadata: []byte(`{"k":"v\n"}`), From: "key main", Via: "http", HeaderFrom: "acme.example",
		Template: &message.Template{From: message.Address{Email: "news@acme.example", Name: "飛脚"}, Subject: "{{name}}様", Text: "t {{points}}", Job: "nov", MessageIDDomain: "mx.acme.example"}}
	if diff := cmp.Diff(wantMessage, m); diff != "" {
		t.Error(diff)
	}
	wantRcpts := []message.Recipient{{Address: "taro@x.example", Name: "太郎", Vars: []byte(`{"points":3}`), Metadata: []byte(`{"u":1}`)},
		{Address: "hanako@日本.example", Name: "花子", Vars: []byte(`{"points":2}`)}}
	if diff := cmp.Diff(wantRcpts, sub.Recipients); diff != "" {
		t.Error(diff)
	}
	if !sub.OneEach || !sub.PriorityGiven || !sub.SendAt.Equal(at) || !sub.Expires.Equal(at.Add(time.Hour)) {
		t.Errorf("submission %+v", sub)
	}
}

// TestJobNames: many recipients make a job; one needs none, but can be asked
// for by the name in the answer.
func TestJobNames(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	one := do(t, s, call{body: hello})
	id := n.accepted()[0].Message.ID.String()
	if one.decoded.Job != id || n.accepted()[0].Message.Job != "" {
		t.Errorf("one recipient: answer %q, queued under %q", one.decoded.Job, n.accepted()[0].Message.Job)
	}
	for _, c := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"GET", "", 200, `"state":"active","accepted":1,"queued":1`},
		{"PATCH", `{"state":"paused"}`, 409, "not paused"},
		{"DELETE", "", 200, `"state":"cancelled","accepted":1,"queued":0`},
	} {
		a := do(t, s, call{method: c.method, path: "/v1/jobs/" + id, body: c.body})
		if a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s: %d %s", c.method, a.status, a.body)
		}
	}
	two := do(t, s, call{body: strings.Replace(hello, `"to":[`, `"to":[{"email":"a@x.example","name":"a","vars":{"points":0}},`, 1)})
	m := n.accepted()[1].Message
	if two.decoded.Job != m.ID.String() || m.Job != m.ID.String() {
		t.Errorf("two recipients: answer %q, queued under %q", two.decoded.Job, m.Job)
	}
}

func TestSubmitRaw(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	send := func(content, more string) *answer {
		return do(t, s, call{body: `{"raw":"` + base64.StdEncoding.EncodeToString([]byte(content)) + `","to":[{"email":"a@x.example"},{"email":"b@y.example"}]` + more + `}`})
	}
	const good = "From: 飛脚 <news@acme.example>\r\nSubject: s\r\nBcc: secret@x.example,\r\n other@x.example\r\nX-Hikyaku-Job: x\r\n\r\n.\r\n本文"
	if a := send(good, `,"envelope_from":""`); a.status != 202 || len(a.decoded.Messages) != 2 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	m := n.accepted()[0].Message
	got := string(m.Raw)
	for _, want := range []string{"Received: from [127.0.0.1]\r\n\tby mx.acme.example (Hikyaku) with HTTP\r\n\tid " + m.ID.String() + ";\r\n\t", "\r\nDate: ", "\r\nMessage-ID: <" + m.ID.String() + "@mx.acme.example>\r\nFrom: 飛脚 <news@acme.example>\r\nSubject: s\r\n\r\n.\r\n本文\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if m.Sender != "" || m.HeaderFrom != "acme.example" || !m.UTF8 || m.Body != message.Body8BitMIME || strings.Contains(got, "secret") {
		t.Errorf("message %+v", m)
	}
	if a := send("From: a@sub.acme.example\r\nDate: x\r\nMessage-ID: <x>\r\n\r\nhi\r\n", ""); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	m = n.accepted()[1].Message
	if m.Sender != "a@sub.acme.example" || m.UTF8 || m.Body != message.Body7Bit || strings.Count(string(m.Raw), "Date: ") != 1 {
		t.Errorf("message %+v %s", m, m.Raw)
	}
	for _, c := range []struct {
		content, more string
		status        int
		want          string
	}{
		{"", "", 422, "empty"},
		{"From: a@acme.example\n\nx", "", 422, "line 1: bare LF"},
		{"From: a@acme.example\r\n\r\nx\ry\r\n", "", 422, "line 3: bare CR"},
		{"From: a@acme.example\r\n\r\nx\x00\r\n", "", 422, "line 3: NUL"},
		{"From: a@acme.example\r\n\r\n" + strings.Repeat("x", 999) + "\r\n", "", 422, "line 3: line too long"},
		{"Subject: x\r\n\r\nx\r\n", "", 422, "no From header"},
		{"From: a@acme.example\r\nFrom: b@acme.example\r\n\r\n", "", 422, "more than one From"},
		{"From: a@acme.example\r\nnot a header\r\n\r\n", "", 422, "line 2: not a header field"},
		{"From: a@acme.example, b@evil.example\r\n\r\n", "", 422, "may not use"},
		{"From: \"a@acme.example\" <b@evil.example>\r\n\r\n", "", 422, "may not use"},
		{"From: a@acme.example\r\n\r\n", `,"envelope_from":"x@evil.example"`, 403, "envelope_from"},
		{"From: a@acme.example\r\n\r\n", `,"subject":"x"`, 422, "together with raw"},
		{strings.Repeat("Received: from x by y\r\n", 60) + "From: a@acme.example\r\n\r\n", "", 422, "looping"},
	} {
		if a := send(c.content, c.more); a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%.60q: %d %s", c.content, a.status, a.body)
		}
	}
	if len(n.accepted()) != 2 {
		t.Errorf("%d submissions accepted, want 2", len(n.accepted()))
	}
}

func TestRefusedRequests(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, func(l *ingest.HTTPListener) { l.MaxRecipients = 3 })
	to := `"to":[{"email":"a@x.example"}]`
	from := `"from":{"email":"a@acme.example"}`
	for _, c := range []struct {
		name, body string
		status     int
		path, want string
	}{
		{"empty", " ", 400, "", "want an object"},
		{"not JSON", `{"to"`, 400, "to", "not valid JSON at byte 6"},
		{"list", `[]`, 400, "", "want an object"},
		{"two values", `{` + from + `,"text":"x",` + to + `} {}`, 400, "", "not valid JSON"},
		{"bad UTF-8", "{\"text\":\"\xff\"}", 400, "", ""},
		{"unknown field", `{"form":1}`, 400, "form", "unknown field"},
		{"unknown field deep", `{"to":[{"email":"a@b.c"},{"email":"a@b.c","mail":"x"}]}`, 400, "to[1].mail", "unknown field"},
		{"other case", `{"To":[]}`, 400, "To", "unknown field"},
		{"twice", `{"text":"a","text":"b"}`, 400, "text", "given twice"},
		{"twice escaped", `{"text":"a","te\u0078t":"b"}`, 400, "text", "given twice"},
		{"wrong type", `{"to":[{"email":5}]}`, 400, "to[0].email", "want a string"},
		{"null", `{"subject":null}`, 400, "subject", "want a string"},
		{"vars a list", `{"to":[{"email":"a@b.c","vars":[]}]}`, 400, "to[0].vars", "want an object"},
		{"deep", `{"metadata":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40) + `}`, 400, "metadata", "nested deeper"},
		{"bad number", `{"metadata":{"a":01}}`, 400, "metadata", "not valid JSON"},
		{"control in string", "{\"text\":\"a\nb\"}", 400, "text", "not valid JSON"},
		{"bad escape", `{"text":"\x"}`, 400, "text", "not valid JSON"},
		{"no recipients", `{` + from + `,"text":"x"}`, 400, "to", "want 1 to 3"},
		{"empty recipients", `{` + from + `,"text":"x","to":[]}`, 400, "to", "want 1 to 3"},
		{"too many recipients", `{"to":[{"email":"a@b.c"},{"email":"a@b.c"},{"email":"a@b.c"},{"email":"a@b.c"}]}`, 400, "to", "more than 3"},
		{"no email", `{"to":[{"name":"x"}]}`, 400, "to[0]", "email is missing"},
		{"bad base64", `{"raw":"####"}`, 400, "raw", "not valid base64"},
		{"bad time", `{"send_at":"tomorrow"}`, 400, "send_at", "RFC 3339"},
		{"large metadata", `{"metadata":{"a":"` + strings.Repeat("x", 20000) + `"}}`, 400, "metadata", "more than 16384"},
		{"many tags", `{"tags":[` + strings.Repeat(`"a",`, 16) + `"a"]}`, 400, "tags", "more than 16"},
		{"bad tag", `{"tags":["a\n"]}`, 400, "tags[0]", "control"},
		{"no from", `{"text":"x",` + to + `}`, 422, "from", "missing"},
		{"bad from", `{"from":{"email":"a b@acme.example"},"text":"x",` + to + `}`, 422, "from.email", "not an address"},
		{"from injects", `{"from":{"email":"a@acme.example>\r\nBcc: x@y.z"},"text":"x",` + to + `}`, 422, "from.email", "not an address"},
		{"subject injects", `{` + from + `,"subject":"a\r\nBcc: x@y.z","text":"x",` + to + `}`, 422, "subject", "control"},
		{"header injects", `{` + from + `,"headers":[{"name":"X-A\r\nBcc","value":"x"}],"text":"x",` + to + `}`, 422, "headers[0].name", "letters"},
		{"template", `{` + from + `,"html":"a\n{{#if x}}",` + to + `}`, 422, "html", "line 2, column 1"},
		{"nothing to say", `{` + from + `,` + to + `}`, 422, "text", "needs"},
		{"other domain", `{"from":{"email":"a@evil.example"},"text":"x",` + to + `}`, 403, "from.email", "sender domains"},
		{"other envelope", `{` + from + `,"envelope_from":"a@evil.example","text":"x",` + to + `}`, 403, "envelope_from", "sender domains"},
		{"bad envelope", `{` + from + `,"envelope_from":"a","text":"x",` + to + `}`, 422, "envelope_from", "not an address"},
		{"stream", `{` + from + `,"stream":"nope","text":"x",` + to + `}`, 422, "stream", "no such stream"},
		{"pool", `{` + from + `,"pool":"nope","text":"x",` + to + `}`, 422, "pool", "no such pool"},
		{"job", `{` + from + `,"job":"a b","text":"x",` + to + `}`, 422, "job", "printable"},
		{"priority", `{` + from + `,"priority":"HIGH","text":"x",` + to + `}`, 422, "priority", "want high"},
		{"missing", `{` + from + `,"missing":"x","text":"x",` + to + `}`, 422, "missing", "want error"},
		{"expired", `{` + from + `,"expires_at":"2001-01-01T00:00:00Z","text":"x",` + to + `}`, 422, "expires_at", "not after"},
		{"all bad", `{` + from + `,"text":"x","to":[{"email":"x"},{"email":"@"},{"email":"a@-b-.c\u0000"}]}`, 422, "to[0]", "not an address"},
		{"name injects", `{` + from + `,"text":"x","to":[{"email":"a@x.example","name":"a\r\nBcc: x"}]}`, 422, "to[0]", "control"},
	} {
		a := do(t, s, call{body: c.body})
		if a.status != c.status || !strings.Contains(a.body, c.want) || a.decoded.Code == "" {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
		if c.path != "" && (len(a.decoded.Details) == 0 || a.decoded.Details[0].Path != c.path) {
			t.Errorf("%s: details %v, want path %q", c.name, a.decoded.Details, c.path)
		}
	}
	if len(n.accepted()) != 0 {
		t.Errorf("%d submissions accepted", len(n.accepted()))
	}
}

func TestWhoMayAsk(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, func(l *ingest.HTTPListener) { l.MaxAuthFailuresPerClient = 4 })
	for _, c := range []struct {
		name   string
		call   call
		status int
	}{
		{"no key", call{body: hello, header: []string{"Authorization", ""}}, 401},
		{"bad key", call{body: hello, header: []string{"Authorization", "Bearer nope"}}, 401},
		{"other scheme", call{body: hello, header: []string{"Authorization", "Basic " + goodKey}}, 401},
		{"unknown page", call{method: "GET", path: "/v2/x"}, 404},
		{"not normalised", call{method: "GET", path: "/v1/./messages/x"}, 404},
		{"wrong method", call{method: "PUT", body: hello}, 405},
		{"wrong type", call{body: hello, header: []string{"Content-Type", "text/plain"}}, 415},
		{"form", call{body: hello, header: []string{"Content-Type", "multipart/form-data; boundary=x"}}, 415},
		{"other charset", call{body: hello, header: []string{"Content-Type", "application/json; charset=shift_jis"}}, 415},
		{"good", call{body: hello, header: []string{"Content-Type", "application/json; charset=UTF-8"}}, 202},
		{"bad key again", call{body: hello, header: []string{"Authorization", "Bearer nope"}}, 401},
		{"and again", call{body: hello, header: []string{"Authorization", "Bearer nope"}}, 401},
		{"too often", call{body: hello}, 429},
	} {
		if a := do(t, s, c.call); a.status != c.status {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
	open := startHTTP(t, n, func(l *ingest.HTTPListener) {
		l.OpenNetworks = []policy.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	})
	a := do(t, open, call{body: strings.ReplaceAll(hello, "acme", "anyone"), header: []string{"Authorization", ""}})
	if m := n.accepted()[len(n.accepted())-1].Message; a.status != 202 || m.Tenant != "default" || m.From != "127.0.0.1" {
		t.Errorf("open network: %d %s, message %+v", a.status, a.body, m)
	}
	if a := do(t, open, call{body: hello, header: []string{"Authorization", "Bearer nope"}}); a.status != 401 {
		t.Errorf("bad key from an open network: %d", a.status)
	}
}

func TestAnotherTenantsIsUnknown(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	do(t, s, call{body: strings.Replace(hello, `"to"`, `"job":"j","to"`, 1)})
	id := n.accepted()[0].Message.ID.String()
	for _, path := range []string{"/v1/messages/" + id, "/v1/messages/" + id + "-0", "/v1/jobs/j"} {
		if a := do(t, s, call{method: "GET", path: path}); a.status != 200 {
			t.Errorf("own %s: %d %s", path, a.status, a.body)
		}
		for _, method := range []string{"GET", "DELETE", "PATCH"} {
			if method == "PATCH" && !strings.Contains(path, "jobs") {
				continue
			}
			theirs := do(t, s, call{method: method, path: path, body: map[string]string{"PATCH": `{"state":"paused"}`}[method], header: []string{"Authorization", "Bearer " + otherKey}})
			unknown := do(t, s, call{method: method, path: strings.NewReplacer(id, "01jd3q8v5x2m9k7c4t6r0w1yza", "jobs/j", "jobs/k").Replace(path), body: map[string]string{"PATCH": `{"state":"paused"}`}[method], header: []string{"Authorization", "Bearer " + otherKey}})
			if theirs.status != 404 || theirs.body != unknown.body || unknown.status != 404 {
				t.Errorf("%s %s: %d %s, of an unknown one %d %s", method, path, theirs.status, theirs.body, unknown.status, unknown.body)
			}
		}
	}
	if st, _ := n.Job(context.Background(), "acme", "j"); st.State != ingest.JobActive {
		t.Errorf("job is %s", st.State)
	}
}

func TestStatusAndCancel(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	do(t, s, call{body: `{"from":{"email":"a@acme.example"},"text":"x","job":"a/b","to":[{"email":"a@x.example"},{"email":"b@x.example"},{"email":"c@x.example"}]}`})
	id := n.accepted()[0].Message.ID.String()
	for _, c := range []struct {
		call   call
		status int
		want   string
	}{
		{call{method: "GET", path: "/v1/messages/" + id + "?limit=2"}, 200, `"total":3`},
		{call{method: "GET", path: "/v1/messages/" + id + "?limit=2"}, 200, `"next":2`},
		{call{method: "GET", path: "/v1/messages/" + id + "?from=2&limit=2"}, 200, `"email":"c@x.example","state":"queued"`},
		{call{method: "GET", path: "/v1/messages/" + id + "-1"}, 200, `"id":"` + id + `-1"`},
		{call{method: "GET", path: "/v1/messages/" + id + "-7"}, 404, "not_found"},
		{call{method: "GET", path: "/v1/messages/" + strings.ToUpper(id)}, 200, id},
		{call{method: "GET", path: "/v1/messages/nonsense"}, 404, "not_found"},
		{call{method: "GET", path: "/v1/messages/" + id + "?limit=0"}, 400, "?limit"},
		{call{method: "GET", path: "/v1/messages/" + id + "?from=70000"}, 400, "?from"},
		{call{method: "GET", path: "/v1/messages/" + id + "?x=1"}, 400, "?x"},
		{call{method: "DELETE", path: "/v1/messages/" + id + "-1"}, 200, `"cancelled":1`},
		{call{method: "DELETE", path: "/v1/messages/" + id}, 200, `"cancelled":2,"in_flight":0,"ended":1`},
		{call{method: "POST", path: "/v1/messages/" + id, body: "{}"}, 405, ""},
		{call{method: "GET", path: "/v1/jobs/a%2Fb"}, 200, `"accepted":3`},
		{call{method: "GET", path: "/v1/jobs/a/b"}, 404, ""},
		{call{method: "PATCH", path: "/v1/jobs/a%2Fb", body: `{"state":"paused","rate":"10/s"}`}, 200, `"state":"paused","rate":"10/s"`},
		{call{method: "PATCH", path: "/v1/jobs/a%2Fb", body: `{"rate":""}`}, 200, `"state":"paused","accepted":3`},
		{call{method: "PATCH", path: "/v1/jobs/a%2Fb", body: `{"state":"gone"}`}, 422, "state"},
		{call{method: "PATCH", path: "/v1/jobs/a%2Fb", body: `{"rate":"fast"}`}, 422, "rate"},
		{call{method: "PATCH", path: "/v1/jobs/a%2Fb", body: `{"speed":1}`}, 400, "unknown field"},
		{call{method: "PATCH", path: "/v1/jobs/a%2Fb", body: `{}`}, 422, "want state"},
		{call{method: "DELETE", path: "/v1/jobs/a%2Fb"}, 200, `"state":"cancelled"`},
		{call{method: "GET", path: "/healthz"}, 200, `{"ok":true}`},
		{call{method: "GET", path: "/docs"}, 200, "<h1>Hikyaku injection API</h1>"},
	} {
		if a := do(t, s, c.call); a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s %s %s: %d %s", c.call.method, c.call.path, c.call.body, a.status, a.body)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	body := strings.Replace(hello, `"to":[`, `"to":[{"email":"bad"},`, 1) + " "
	key := []string{"Idempotency-Key", "k1"}
	first := do(t, s, call{body: body, header: key})
	if first.status != 202 || first.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %s", first.status, first.body)
	}
	again := do(t, s, call{body: body, header: key})
	if again.status != 202 || again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("again: %d\n%s\n%s", again.status, again.body, first.body)
	}
	// A crash loses all but what Accept was given to store.
	after := startHTTP(t, n, nil)
	if a := do(t, after, call{body: body, header: key}); a.body != first.body {
		t.Errorf("after a restart: %s", a.body)
	}
	if a := do(t, s, call{body: hello, header: key}); a.status != 409 {
		t.Errorf("other body: %d %s", a.status, a.body)
	}
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	_, _ = zw.Write([]byte(body))
	_ = zw.Close()
	if a := do(t, s, call{body: zipped.String(), header: []string{"Idempotency-Key", "k1", "Content-Encoding", "gzip"}}); a.body != first.body {
		t.Errorf("the same body, compressed: %d %s", a.status, a.body)
	}
	if a := do(t, s, call{body: strings.ReplaceAll(body, "acme", "any"), header: []string{"Idempotency-Key", "k1", "Authorization", "Bearer " + otherKey}}); a.status != 202 || a.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("another tenant's key of the same name: %d %s", a.status, a.body)
	}
	for _, bad := range []string{strings.Repeat("k", 256), "k\u00e9"} {
		if a := do(t, s, call{body: body, header: []string{"Idempotency-Key", bad}}); a.status != 400 {
			t.Errorf("key %q: %d", bad, a.status)
		}
	}
	if len(n.accepted()) != 2 {
		t.Errorf("%d submissions, want 2", len(n.accepted()))
	}
}

// TestConcurrentSameKey: of many requests with one key, one is accepted and all
// get its answer.
func TestConcurrentSameKey(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	var wg sync.WaitGroup
	answers := make([]string, 20)
	for i := range answers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			answers[i] = do(t, s, call{body: hello, header: []string{"Idempotency-Key", "same"}}).body
		}()
	}
	wg.Wait()
	for _, a := range answers {
		if a != answers[0] || !strings.Contains(a, "messages") {
			t.Errorf("answers differ: %s and %s", a, answers[0])
		}
	}
	if len(n.accepted()) != 1 {
		t.Errorf("%d submissions, want 1", len(n.accepted()))
	}
}

// TestNoAnswerBeforeDurable: whatever Accept says but nil, it is no 202, and a
// failed request leaves its key free.
func TestNoAnswerBeforeDurable(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, nil)
	for _, c := range []struct {
		err    error
		status int
		retry  string
	}{
		{&ingest.Refusal{HTTP: 503, RetryAfter: 30 * time.Second, Text: "insufficient storage"}, 503, "30"},
		{&ingest.Refusal{HTTP: 429, RetryAfter: 1500 * time.Millisecond, Text: "too much queued"}, 429, "2"},
		{fmt.Errorf("append: %w", context.DeadlineExceeded), 503, "5"},
		{errors.New("disk on fire at /secret/path"), 500, ""},
	} {
		n.accept = func(*ingest.Submission) error { return c.err }
		a := do(t, s, call{body: hello, header: []string{"Idempotency-Key", "k"}})
		if a.status != c.status || a.header.Get("Retry-After") != c.retry || strings.Contains(a.body, "secret") {
			t.Errorf("%v: %d %s %s", c.err, a.status, a.header, a.body)
		}
	}
	n.accept = nil
	if a := do(t, s, call{body: hello, header: []string{"Idempotency-Key", "k"}}); a.status != 202 {
		t.Errorf("%d %s", a.status, a.body)
	}
	n.admit = &ingest.Refusal{HTTP: 503, RetryAfter: time.Second, Text: "draining"}
	if a := do(t, s, call{body: hello}); a.status != 503 || a.decoded.Code != "unavailable" {
		t.Errorf("%d %s", a.status, a.body)
	}
	n.admit = nil
	n.accept = func(*ingest.Submission) error { panic("a bug") }
	if a := do(t, s, call{body: hello}); a.status != 500 || s.Metrics().Panics != 1 {
		t.Errorf("panic: %d %s", a.status, a.body)
	}
}

func TestBodyLimits(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, func(l *ingest.HTTPListener) {
		l.MaxBodyBytes, l.MaxDecompressedBytes, l.MaxBodyMemory = 100<<10, 300<<10, 1<<20
	})
	zip := func(b []byte) string {
		var out bytes.Buffer
		zw := gzip.NewWriter(&out)
		_, _ = zw.Write(b)
		_ = zw.Close()
		return out.String()
	}
	pad := func(n int) string { return hello + strings.Repeat(" ", n) }
	gz := []string{"Content-Encoding", "gzip"}
	for _, c := range []struct {
		name   string
		call   call
		status int
	}{
		{"gzip", call{body: zip([]byte(hello)), header: gz}, 202},
		{"gzip in two members", call{body: zip([]byte(hello[:20])) + zip([]byte(hello[20:])), header: gz}, 202},
		{"at the limit", call{body: pad(100<<10 - len(hello))}, 202},
		{"over the limit", call{body: pad(100<<10 - len(hello) + 1)}, 413},
		{"unpacked at the limit", call{body: zip([]byte(pad(300<<10 - len(hello)))), header: gz}, 202},
		{"unpacked over the limit", call{body: zip([]byte(pad(300<<10 - len(hello) + 1))), header: gz}, 413},
		{"bomb", call{body: zip(make([]byte, 50<<20)), header: gz}, 413},
		{"no gzip", call{body: hello, header: gz}, 400},
		{"cut off", call{body: zip([]byte(hello))[:60], header: gz}, 400},
		{"damaged", call{body: zip([]byte(hello))[:60] + strings.Repeat("x", 60), header: gz}, 400},
		{"deflate", call{body: hello, header: []string{"Content-Encoding", "deflate"}}, 415},
		{"twice gzip", call{body: hello, header: []string{"Content-Encoding", "gzip, gzip"}}, 415},
	} {
		if a := do(t, s, c.call); a.status != c.status {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
	if m := s.Metrics(); m.BodyBytesLent != 0 {
		t.Errorf("%d bytes of body memory are still lent", m.BodyBytesLent)
	}
}

// BenchmarkPost10000 is one request to 10,000 recipients over a connection,
// with real templates: decoding, checking each recipient, answering.
func BenchmarkPost10000(b *testing.B) {
	n := newNode(b)
	s := startHTTP(b, n, nil)
	var body strings.Builder
	body.WriteString(strings.SplitAfter(hello, `"to":[`)[0])
	for i := range 10_000 {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"email":"user%06d@mail%03d.example.jp","name":"山田 太郎 %d","vars":{"points":%d}}`, i, i%500, i, i)
	}
	body.WriteString("]}")
	for b.Loop() {
		if a := do(b, s, call{body: body.String()}); a.status != 202 {
			b.Fatal(a.status, a.body)
		}
		n.mu.subs = nil
	}
}
