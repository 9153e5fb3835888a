package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"hikyaku/controlplane/access"
	clustertest "hikyaku/controlplane/api/apitest"
	"hikyaku/node/api/apitest"
)

// TestOpenAPIFuzz walks every operation of the document of the admin API and
// asks it what fits and what does not: values at and beyond their bounds, of
// other types, unknown fields, long and broken text, parameters left out and
// added, other content types and methods. Whatever comes, the status is one that
// the operation documents, is below 500, and the body is as documented.
//
// HIKYAKU_SEED repeats a run; HIKYAKU_LONG=1 asks each operation a thousand
// times.
func TestOpenAPIFuzz(t *testing.T) {
	seed, rounds := uint64(1), 60
	if s := os.Getenv("HIKYAKU_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	if os.Getenv("HIKYAKU_LONG") != "" {
		rounds = 1000
	}
	if testing.Short() {
		rounds = 10
	}
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	// All nodes answer: that some do not is not what is tried here.
	if status, text := b.ask(t, access.Admin, "DELETE", "/v1/nodes/osaka-1", ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	f := newFuzzer(t, b, seed)
	t.Logf("seed %d, %d rounds over %d operations", seed, rounds, len(f.operations))
	for range rounds {
		for i := range f.operations {
			f.one(&f.operations[i])
		}
	}
	f.report()
}

// fuzzed is one operation of the document.
type fuzzed struct {
	method, path string
	op           *openapi3.Operation
	got          map[int]int // statuses
}

// fuzzer makes requests from a seed and judges the answers.
type fuzzer struct {
	t          *testing.T
	b          *adminBed
	r          *rand.Rand
	seed       uint64
	operations []fuzzed
	client     *http.Client
	asked      int
}

func newFuzzer(t *testing.T, b *adminBed, seed uint64) *fuzzer {
	t.Helper()
	_, text := b.ask(t, access.Admin, "GET", "/v1/openapi.json", "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	f := &fuzzer{t: t, b: b, r: rand.New(rand.NewPCG(seed, 0)), seed: seed, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		item := doc.Paths.Map()[path]
		for _, method := range slices.Sorted(maps.Keys(item.Operations())) {
			f.operations = append(f.operations, fuzzed{method, path, item.Operations()[method], map[int]int{}})
		}
	}
	if len(f.operations) < 50 {
		t.Fatalf("%d operations: the document is not whole", len(f.operations))
	}
	return f
}

// asking is one request and what of it does not fit.
type asking struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
	role         access.Role
}

func (a *asking) String() string {
	return fmt.Sprintf("%s %s?%s as %s, %v\n%.400q", a.method, a.path, a.query.Encode(), a.role, a.header, a.body)
}

// chance is true in one of n.
func (f *fuzzer) chance(n int) bool { return f.r.IntN(n) == 0 }

func pick[T any](f *fuzzer, v []T) T { return v[f.r.IntN(len(v))] }

func (f *fuzzer) one(o *fuzzed) {
	a := &asking{method: o.method, path: o.path, query: url.Values{}, header: http.Header{}, role: access.Admin}
	if f.chance(8) {
		a.role = pick(f, []access.Role{access.Operator, access.ReadOnly, access.Tenant, access.Admin, ""})
	}
	for _, ref := range o.op.Parameters {
		f.parameter(a, ref.Value)
	}
	if f.chance(10) {
		a.query.Set(pick(f, []string{"nope", "limit", "dry_run", "node", "\xff", ""}), f.text())
	}
	if o.op.RequestBody != nil {
		f.body(a, o.op.RequestBody.Value)
	} else if f.chance(10) {
		a.body = []byte(f.text())
		a.header.Set("Content-Type", "application/json")
	}
	if f.chance(12) {
		a.header.Set("Accept", pick(f, []string{"text/html", "application/cbor", "*/*;q=0", "\"", "application/xml, */*"}))
	}
	if f.chance(15) {
		a.method = pick(f, []string{"GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"})
	}
	g := f.ask(a)
	if wrong := f.judge(o, a, g); wrong != "" {
		f.t.Errorf("seed %d, request %d: %s\nanswer %d %s %.600s\n%s", f.seed, f.asked, a, g.status, g.header.Get("Content-Type"), g.body, wrong)
	}
}

func (f *fuzzer) parameter(a *asking, p *openapi3.Parameter) {
	text := func() string {
		v := f.named(p.Name, p.Schema.Value, 0)
		if f.chance(6) {
			v = f.text()
		}
		if list, ok := v.([]any); ok && len(list) > 0 {
			v = list[0]
		}
		return fmt.Sprint(v)
	}
	switch p.In {
	case "path":
		v := text()
		if v == "" {
			v = "x" // without it, it is another path
		}
		a.path = strings.ReplaceAll(a.path, "{"+p.Name+"}", url.PathEscape(v))
	case "query":
		if p.Required && !f.chance(8) || f.chance(3) {
			for range 1 + f.r.IntN(2)*f.r.IntN(3) {
				a.query.Add(p.Name, text())
			}
		}
	case "header":
		if f.chance(4) {
			a.header.Set(p.Name, strings.Map(func(r rune) rune {
				if r < ' ' || r == 0x7f {
					return -1 // net/http's client refuses them
				}
				return r
			}, text()))
		}
	}
}

func (f *fuzzer) body(a *asking, b *openapi3.RequestBody) {
	a.header.Set("Content-Type", "application/json")
	var schema *openapi3.Schema
	if m := b.Content["application/json"]; m != nil {
		schema = m.Schema.Value
	}
	if schema == nil {
		f.t.Fatalf("%s %s: a body without a schema", a.method, a.path)
	}
	v := f.value(schema, 0)
	text, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	switch f.r.IntN(16) {
	case 0:
		text = nil
	case 1: // cut off
		text = text[:f.r.IntN(len(text)+1)]
	case 2:
		text = []byte(pick(f, []string{"null", "[]", "0", `""`, "{", "\xff", "[[[[", `{"a":1}{"b":2}`, strings.Repeat("[", 20000), `{"a":"\ud800"}`, `{"a":1e999}`, `{"a":1,"a":2}`}))
	case 3: // a byte that is not UTF-8, somewhere
		if i := f.r.IntN(len(text) + 1); true {
			text = slices.Insert(slices.Clone(text), i, 0xff)
		}
	case 4:
		text = append(bytes.TrimSuffix(text, []byte("}")), []byte(`,"unknown_field":{"x":[1]}}`)...)
	}
	if f.chance(15) {
		a.header.Set("Content-Type", pick(f, []string{"text/plain", "application/xml", "application/cbor", "multipart/form-data", ";", "application/json; charset=latin-1", "application/merge-patch+json"}))
	}
	if f.chance(40) {
		a.header.Del("Content-Type")
	}
	a.body = text
}

// words are what some operation knows, so that more than its refusals is tried.
var words = []string{
	"docomo", "default", "shop", "bank", "p1", "a1", "a2", "relay", "tokyo-1", "tokyo-2", "news-1", "letters/7", "docomo.ne.jp", "example.org", "Pool", "carriers", "Throttle", "Tenant",
	"AdminKey", "key-tenant", apitest.MessageID, apitest.MessageID + "-0", "50/s", "5000/h,burst=50", "0/s", "2h", "3d", "2030-01-01T00:00:00Z", "2020-01-01T00:00:00+09:00", "active",
	"paused", "hold", "cancel", "size", "age", "1", "0", "2", "12", `"1"`, `"2"`, "*", "true", "user@docomo.ne.jp", "@docomo.ne.jp", "bounced,deferred", "in", "tenant", "admin", "carrier",
	"192.0.2.0/24", "sha256:abcdefghijkm:" + strings.Repeat("0a", 32), "198.51.100.1", "held", "policy", "docomo.pool.p1",
}

// fitting are words for parameters and fields by name, so that operations are
// also asked what they can do.
var fitting = map[string][]string{
	"node": {"tokyo-1", "tokyo-2"}, "source": {"a1", "a2"}, "carrier": {"docomo", "default"}, "tenant": {"shop", "bank"}, "pool": {"p1"}, "kind": {"Pool", "Carrier", "Throttle", "Route"},
	"name": {"p1", "docomo", "relay", "shop"}, "rate": {"50/s", "5000/h,burst=50"}, "connection_rate": {"100/m"}, "for": {"2h", "1d"}, "expires": {"2030-01-01T00:00:00Z"},
	"destination": {"docomo.ne.jp"}, "message": {apitest.MessageID}, "verb": {"hold", "release", "retry", "cancel"}, "nodes": {"tokyo-1"}, "job": {"news-1"},
}

// named is a value for something of that name: often one that fits.
func (f *fuzzer) named(name string, s *openapi3.Schema, depth int) any {
	switch {
	case f.chance(2) && (name == "revision" || name == "expected_revision"):
		return 1
	case f.chance(2) && name == "id":
		return pick(f, []string{apitest.MessageID, "news-1", clustertest.DecisionID})
	case f.chance(3) || fitting[name] == nil || !s.Type.Includes("string"):
		return f.value(s, depth)
	}
	return pick(f, fitting[name])
}

// text is any text: known words, and what should be refused or does no harm.
func (f *fuzzer) text() string {
	switch f.r.IntN(12) {
	case 0:
		return ""
	case 1:
		return strings.Repeat(pick(f, []string{"a", "é", "../", "%", "\x00"}), 1+f.r.IntN(700))
	case 2:
		return pick(f, []string{"\xff\xfe", "a\x00b", "\r\nX: y", "日本", "\u202e", "'; --", "<script>", "{}", "[]", "null", ".", "..", "/", "a/b", "%2F", "-1", "1e9", "NaN", " ", "\x7f", "_"})
	case 3:
		return strconv.FormatInt(pick(f, []int64{-1, 0, 1, 1000, 1001, 65535, 65536, 1 << 31, 1<<63 - 1, -1 << 63}), 10)
	case 4:
		b := make([]byte, f.r.IntN(40))
		for i := range b {
			b[i] = byte(f.r.IntN(256))
		}
		return string(b)
	}
	return pick(f, words)
}

// value is a value of a schema, or, now and then, one that is not.
func (f *fuzzer) value(s *openapi3.Schema, depth int) any {
	if f.chance(14) {
		return pick(f, []any{nil, true, -1, 1.5, 1e300, "x", []any{}, map[string]any{}, f.text()})
	}
	if len(s.AnyOf) > 0 {
		return f.value(pick(f, s.AnyOf).Value, depth+1)
	}
	if len(s.Enum) > 0 {
		return pick(f, s.Enum)
	}
	switch {
	case s.Type.Includes("object"):
		return f.object(s, depth)
	case s.Type.Includes("array"):
		out := []any{}
		if depth < 6 && s.Items != nil {
			for range f.r.IntN(3) {
				out = append(out, f.value(s.Items.Value, depth+1))
			}
		}
		return out
	case s.Type.Includes("integer"), s.Type.Includes("number"):
		return f.number(s)
	case s.Type.Includes("boolean"):
		return f.chance(2)
	case s.Format == "date-time":
		return time.Unix(f.r.Int64N(4e9), 0).UTC().Format(time.RFC3339)
	case s.MaxLength != nil && f.chance(10) && *s.MaxLength < 20000:
		return strings.Repeat("a", int(*s.MaxLength)+f.r.IntN(2))
	}
	return f.text()
}

func (f *fuzzer) number(s *openapi3.Schema) any {
	ns := []float64{0, 1, 2, 3}
	if s.Min != nil {
		ns = append(ns, *s.Min, *s.Min-1, *s.Min)
	}
	if s.Max != nil {
		ns = append(ns, *s.Max, *s.Max+1)
	}
	if f.chance(10) {
		ns = append(ns, 1<<53, -1<<53, 1<<31)
	}
	return int64(pick(f, ns))
}

func (f *fuzzer) object(s *openapi3.Schema, depth int) any {
	out := map[string]any{}
	bare := f.chance(3)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if depth < 6 && (!bare && f.chance(3) || slices.Contains(s.Required, name) && !f.chance(20)) {
			out[name] = f.named(name, s.Properties[name].Value, depth+1)
		}
	}
	if s.AdditionalProperties.Schema != nil && depth < 6 && f.chance(2) {
		out[f.text()] = f.value(s.AdditionalProperties.Schema.Value, depth+1)
	}
	return out
}

// given is an answer. cut: it was a stream that goes on.
type given struct {
	status int
	header http.Header
	body   []byte
	cut    bool
}

func (f *fuzzer) ask(a *asking) *given {
	f.asked++
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	stream := strings.HasSuffix(a.path, "/tail") || strings.HasSuffix(a.path, "/trace")
	if stream { // what is asked may last a day
		a.query.Del("seconds")
		if !f.chance(10) {
			a.query.Set("seconds", pick(f, []string{"0", "-1", "86401", "x"}))
		} else {
			ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
		}
	}
	r, err := http.NewRequestWithContext(ctx, a.method, f.b.url, bytes.NewReader(a.body))
	if err != nil {
		f.t.Fatalf("%s: %v", a, err)
	}
	u, err := url.Parse(f.b.url + a.path)
	if err != nil {
		f.t.Fatalf("%s: %v", a, err)
	}
	r.URL, r.Header = u, a.header.Clone()
	r.URL.RawQuery = a.query.Encode()
	if a.role != "" {
		r.Header.Set("Authorization", "Bearer "+f.b.keys[a.role])
	}
	resp, err := f.client.Do(r)
	if err != nil {
		if stream && errors.Is(err, context.DeadlineExceeded) {
			return &given{cut: true}
		}
		f.t.Fatalf("seed %d, request %d: %s: %v", f.seed, f.asked, a, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	g := &given{status: resp.StatusCode, header: resp.Header, body: body, cut: err != nil}
	if err != nil && !(stream && errors.Is(err, context.DeadlineExceeded)) {
		f.t.Errorf("seed %d, request %d: %s: read the answer: %v", f.seed, f.asked, a, err)
	}
	return g
}

// judge says what is wrong with an answer, "" for nothing.
func (f *fuzzer) judge(o *fuzzed, a *asking, g *given) string {
	if g.status == 0 {
		return ""
	}
	if g.status >= 500 {
		return "a status of 500 or more"
	}
	kind, _, _ := mime.ParseMediaType(g.header.Get("Content-Type"))
	if a.method != o.method { // another operation, or none: then a problem all the same
		if g.status >= 400 && g.status != 431 && kind != "application/problem+json" && a.method != "HEAD" {
			return "not a problem document"
		}
		return ""
	}
	if strings.Contains(a.path, "/.") && g.status == 404 { // a name of dots is no operation
		return ""
	}
	o.got[g.status]++
	documented := o.op.Responses.Value(strconv.Itoa(g.status))
	if documented == nil {
		return "the operation does not document this status"
	}
	if g.cut || len(documented.Value.Content) == 0 {
		return ""
	}
	media := documented.Value.Content[kind]
	if media == nil {
		return fmt.Sprintf("the operation documents %v for this status", slices.Sorted(maps.Keys(documented.Value.Content)))
	}
	if kind == "application/x-ndjson" || kind == "text/plain" {
		return ""
	}
	var v any
	if err := json.Unmarshal(g.body, &v); err != nil {
		return "not JSON: " + err.Error()
	}
	if err := media.Schema.Value.VisitJSON(v, openapi3.VisitAsResponse()); err != nil {
		return "not as documented: " + err.Error()
	}
	return ""
}

// TestFuzzerSees: the judge of TestOpenAPIFuzz goes red for each thing that it
// is there to see.
func TestFuzzerSees(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	f := newFuzzer(t, b, 1)
	i := slices.IndexFunc(f.operations, func(o fuzzed) bool { return o.method == "GET" && o.path == "/v1/leader" })
	o := &f.operations[i]
	const good = `{"name":"a","address":"b","since":"2026-11-22T10:15:00Z","term":1,"revision":1,"members":1,"live":1,"scopes":1,"exchanges_per_second":1,"last_decision_seconds":1,"etcd_writes":1,"conflicts":0}`
	const plain, fault = "application/json", "application/problem+json"
	for name, x := range map[string]struct {
		method string
		status int
		kind   string
		body   string
		want   string
	}{
		"as documented":       {"GET", 200, plain, good, ""},
		"5xx":                 {"GET", 503, fault, `{}`, "500 or more"},
		"undocumented status": {"GET", 418, fault, `{}`, "does not document"},
		"field missing":       {"GET", 200, plain, `{"name":"a"}`, "not as documented"},
		"field of no name":    {"GET", 200, plain, strings.Replace(good, "{", `{"more":1,`, 1), "not as documented"},
		"other type":          {"GET", 200, plain, strings.Replace(good, `"term":1`, `"term":"1"`, 1), "not as documented"},
		"not JSON":            {"GET", 200, plain, "<html>", "not JSON"},
		"other content type":  {"GET", 200, "text/plain", good, "documents [application/json]"},
		"plain 404":           {"BREW", 404, "text/plain", "404 page not found", "not a problem"},
	} {
		g := &given{status: x.status, header: http.Header{"Content-Type": {x.kind}}, body: []byte(x.body)}
		if got := f.judge(o, &asking{method: x.method, path: o.path}, g); (got == "") != (x.want == "") || !strings.Contains(got, x.want) {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// report logs what was answered, and fails if an operation was never asked with
// success: then nothing but refusals was tried.
func (f *fuzzer) report() {
	statuses := map[int]int{}
	for i := range f.operations {
		o := &f.operations[i]
		good := 0
		for status, n := range o.got {
			statuses[status] += n
			if status/100 == 2 {
				good += n
			}
		}
		if good == 0 && !testing.Short() {
			f.t.Logf("%s %s was never asked with success: %v", o.method, o.path, o.got)
		}
	}
	f.t.Logf("%d requests; statuses %v", f.asked, statuses)
}
