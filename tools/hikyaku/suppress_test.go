package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/controlplane/access"
	"hikyaku/node"
	"hikyaku/node/api"
	"hikyaku/node/suppress"
	"hikyaku/spool/suppression"
)

// newSuppressions is a suppression list in memory, with a few entries.
func newSuppressions(t testing.TB) api.Suppressions {
	t.Helper()
	s, err := suppression.Open(suppression.Options{Dir: "suppression", FS: vfs.NewMem(), MemTableSize: 1 << 20, CacheSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := suppress.New(suppress.Options{Name: "tokyo-1", Store: s})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	_, err = l.Add([]suppression.Entry{
		{Tenant: "shop", Address: "user@docomo.ne.jp", Kind: suppression.Bounce, Category: "unknown-user", Reason: "550 Unknown user", By: "node tokyo-1", Added: at},
		{Tenant: "shop", Address: "user@docomo.ne.jp", Stream: "news", Kind: suppression.Unsubscribe, By: "node tokyo-1", Added: at},
		{Tenant: "bank", Address: "user@docomo.ne.jp", Kind: suppression.Complaint, Reason: "letters of the bank", By: "node tokyo-1", Added: at},
		{Address: "spamtrap@example.org", Kind: suppression.Manual, Reason: "for everybody", By: "ann", Added: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	return node.SuppressionAPI(l)
}

// TestSuppressionsOfTenants: a tenant's key sees and changes its own list, whichever
// way it asks, and nothing tells it of others or of the list of all tenants.
func TestSuppressionsOfTenants(t *testing.T) {
	for _, base := range []string{"/v1/suppressions", "/v1/cluster/suppressions"} {
		b := newAdminBed(t, t.TempDir())
		b.seed(t)
		for _, x := range []struct {
			role               access.Role
			method, path, body string
			status             int
			want               string
		}{
			{access.ReadOnly, "GET", "", "", 200, "for everybody"},
			{access.ReadOnly, "GET", "?global=true", "", 200, "for everybody"},
			{access.ReadOnly, "GET", "?tenant=bank", "", 200, "letters of the bank"},
			{access.ReadOnly, "GET", "?domain=example.org&prefix=spam", "", 200, "spamtrap@example.org"},
			{access.ReadOnly, "GET", "?kind=unsubscribe", "", 200, `"stream":"news"`},
			{access.ReadOnly, "GET", "?page=x", "", 422, "cursor"},
			{access.ReadOnly, "GET", "/spamtrap@example.org", "", 200, "for everybody"},
			{access.ReadOnly, "GET", "/nobody@example.org", "", 404, ""},
			{access.ReadOnly, "GET", "/nobody", "", 422, "local@domain"},
			{access.ReadOnly, "GET", ":stats", "", 200, `"complaint":1`},
			{access.ReadOnly, "POST", "", `{"items":[{"address":"x@x.example"}]}`, 403, "role"},
			{access.Tenant, "GET", "", "", 200, "user@docomo.ne.jp"},
			{access.Tenant, "GET", "?tenant=bank", "", 403, "for the tenant shop only"},
			{access.Tenant, "GET", "?global=true", "", 422, "tenant"},
			{access.Tenant, "GET", "/user@docomo.ne.jp", "", 200, "550 Unknown user"},
			{access.Tenant, "GET", "/spamtrap@example.org", "", 404, "no such suppression"},
			{access.Tenant, "GET", "/user@docomo.ne.jp?tenant=bank", "", 403, "only"},
			{access.Tenant, "GET", ":stats", "", 200, `"entries":2`},
			{access.Tenant, "GET", ":stats?tenant=bank", "", 403, "only"},
			{access.Tenant, "GET", ":export", "", 200, `{"end":true`},
			{access.Tenant, "GET", ":export?tenant=bank", "", 403, "only"},
			{access.Tenant, "POST", "", `{"items":[{"address":"new@x.example","reason":"by phone"},{"address":"\"A..b\"@Docomo.NE.jp"}]}`, 200, `"added":2`},
			{access.Tenant, "GET", "/a..b@docomo.ne.jp", "", 200, `"by":"key-tenant"`},
			{access.Tenant, "POST", "", `{"items":[{"address":"new@x.example","tenant":"bank"}]}`, 403, "only"},
			{access.Tenant, "POST", "", `{"items":[{"address":"nobody"}]}`, 422, "local@domain"},
			{access.Tenant, "POST", "", `{"items":[]}`, 422, ""},
			{access.Tenant, "POST", "", `{"items":[` + strings.Repeat(`{"address":"a@x.example"},`, 10000) + `{"address":"a@x.example"}]}`, 422, ""},
			{access.Tenant, "POST", ":remove", `{"items":[{"address":"user@docomo.ne.jp","tenant":"bank"}]}`, 403, "only"},
			{access.Tenant, "DELETE", "/user@docomo.ne.jp?stream=news", "", 200, `"removed":1`},
			{access.Tenant, "DELETE", "/user@docomo.ne.jp?stream=news", "", 404, ""},
			{access.Tenant, "DELETE", "/spamtrap@example.org", "", 404, ""},
			{access.Tenant, "POST", ":remove", `{"items":[{"address":"NEW@x.example"}],"reason":"asked"}`, 200, `"removed":1`},
			{access.Tenant, "POST", ":import", `{"address":"i@x.example"}`, 200, `"added":1`},
			{access.Tenant, "POST", ":import", `{"address":"i@x.example","tenant":"bank"}`, 200, "for the tenant shop only"},
			{access.Tenant, "GET", "", "", 200, `"kind":"import"`},
			{access.ReadOnly, "GET", "?tenant=bank", "", 200, "letters of the bank"},
		} {
			status, text := b.ask(t, x.role, x.method, base+x.path, x.body)
			if status != x.status || !strings.Contains(text, x.want) {
				t.Errorf("%s %s%s %.200s: %d %.600s, want %d %s", x.method, base, x.path, x.body, status, text, x.status, x.want)
			}
			if x.role == access.Tenant && (strings.Contains(text, "letters of") || strings.Contains(text, "everybody")) {
				t.Errorf("%s %s%s tells of others: %s", x.method, base, x.path, text)
			}
		}
		if base == "/v1/cluster/suppressions" {
			if es := b.audit.Entries(); len(es) == 0 || es[0].Action != "suppress" || es[0].Author != "key-tenant" || strings.Contains(fmt.Sprint(es), "@") {
				t.Errorf("audit: %+v", es)
			}
		}
	}
}

// TestSuppressionsSpread: a change says which live nodes have it, and is made by
// another node where one does not answer.
func TestSuppressionsSpread(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	const add = `{"items":[{"address":"%d@x.example","tenant":"shop"}]}`
	if status, text := b.ask(t, access.Admin, "POST", "/v1/cluster/suppressions?wait=1", fmt.Sprintf(add, 1)); status != 200 || !strings.Contains(text, `"nodes":2,"have":2,"everywhere":true`) {
		t.Errorf("%d %s", status, text)
	}
	b.cluster.Peer("tokyo-2", "127.0.0.1:1") // nobody listens
	for i := range 3 {
		status, text := b.ask(t, access.Admin, "POST", "/v1/cluster/suppressions", fmt.Sprintf(add, 2+i))
		if status != 200 || !strings.Contains(text, `"node":"tokyo-1"`) || !strings.Contains(text, `"have":1,"everywhere":false`) || !strings.Contains(text, "refused") {
			t.Errorf("%d %s", status, text)
		}
	}
	b.cluster.Live("tokyo-2", false)
	if status, text := b.ask(t, access.Admin, "POST", "/v1/cluster/suppressions", fmt.Sprintf(add, 9)); status != 200 || !strings.Contains(text, `"nodes":1,"have":1,"everywhere":true`) {
		t.Errorf("%d %s", status, text)
	}
	b.cluster.Live("tokyo-1", false)
	if status, text := b.ask(t, access.Admin, "GET", "/v1/cluster/suppressions", ""); status != 503 || !strings.Contains(text, "no node has answered") {
		t.Errorf("%d %s", status, text)
	}
}

// suppress runs the command against a bed.
func (b *adminBed) suppress(t *testing.T, in string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(append([]string{"--api", b.url, "--token", b.keys[access.Admin], "suppress"}, args...), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func TestSuppressCommands(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	for _, x := range []struct {
		args []string
		code int
		want string // in stdout or stderr
	}{
		{[]string{"add", "new@x.example"}, 2, "--tenant or --all-tenants"},
		{[]string{"add", "--tenant", "shop", "--all-tenants", "new@x.example"}, 2, "either"},
		{[]string{"add", "--tenant", "shop", "--reason", "by phone", "--for", "90d", "--wait", "New@x.example"}, 0, "1 added"},
		{[]string{"add", "--tenant", "shop", "--reason", "by phone", "nonsense"}, 1, "local@domain"},
		{[]string{"get", "new@X.example"}, 0, "by phone"},
		{[]string{"get", "new@x.example", "--tenant", "bank"}, 1, "on no list"},
		{[]string{"ls", "--tenant", "shop", "--domain", "docomo.ne.jp"}, 0, "unknown-user: 550 Unknown user"},
		{[]string{"ls", "--limit", "1"}, 0, "--page"},
		{[]string{"ls", "--all-tenants"}, 0, "spamtrap@example.org"},
		{[]string{"ls", "--all-tenants", "--tenant", "shop"}, 2, "does not go"},
		{[]string{"ls", "--since", "yesterday"}, 2, "--since"},
		{[]string{"stats"}, 0, "total"},
		{[]string{"rm", "--tenant", "shop", "--reason", "back", "new@x.example", "nobody@x.example"}, 0, "1 removed, 1 as before"},
		{[]string{"get", "new@x.example"}, 1, "on no list"},
		{[]string{"export", "--format", "xml"}, 2, "--format"},
		{[]string{"import", "--tenant", "shop", "-"}, 2, "--format is needed"},
		{[]string{"import", "--tenant", "shop", "missing.csv"}, 1, "missing.csv"},
	} {
		code, out, errs := b.suppress(t, "", x.args...)
		if code != x.code || !strings.Contains(out+errs, x.want) {
			t.Errorf("%v: exit code %d, want %d %q\n%s\n%s", x.args, code, x.code, x.want, out, errs)
		}
	}
	if code, out, _ := b.suppress(t, "", "ls", "--tenant", "bank", "--json"); code != 0 || !strings.Contains(out, `"kind": "complaint"`) {
		t.Errorf("%d %s", code, out)
	}
}

// TestSuppressImportAndExport: a list of several parts, with cells that hold line
// breaks and lines that are wrong, which are named by their numbers; what was
// exported is the same when it is imported elsewhere.
func TestSuppressImportAndExport(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	dir := t.TempDir()
	var list strings.Builder
	list.WriteString("\xef\xbb\xbfAddress,reason,kind,expires\r\n")
	line := 2
	var wrong []string
	for i := range 6000 { // about 3 MiB: two parts
		switch {
		case i%1500 == 1499:
			fmt.Fprintf(&list, "nobody%d,no address,,\n", i)
			wrong = append(wrong, fmt.Sprintf("line %d: ", line))
			line++
		case i%1000 == 500:
			fmt.Fprintf(&list, "u%06d@x.example,\"says \"\"no\"\",\nand stops\",complaint,\n", i)
			line += 2
		default:
			fmt.Fprintf(&list, "u%06d@x.example,550 5.1.1 user unknown; said by the old system%s,,2031-01-01T00:00:00Z\n", i, strings.Repeat(" in some more words", 22))
			line++
		}
	}
	name := filepath.Join(dir, "list.csv")
	if err := os.WriteFile(name, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := b.suppress(t, "", "import", "--tenant", "shop", "--dry-run", name)
	if code != 3 || !strings.Contains(out, "6000 lines, 5996 good, 4 bad; nothing was changed") {
		t.Errorf("dry run: %d %s %s", code, out, errs)
	}
	code, out, errs = b.suppress(t, "", "import", "--tenant", "shop", name)
	if code != 3 || !strings.Contains(out, "5996 added, 0 changed, 0 as before, 4 left out") {
		t.Errorf("import: %d %s %s", code, out, errs)
	}
	for _, w := range wrong {
		if !strings.Contains(errs, w) {
			t.Errorf("%q is not named in %s", w, errs)
		}
	}
	if code, out, _ := b.suppress(t, "", "import", "--tenant", "shop", name); code != 3 || !strings.Contains(out, "0 added, 0 changed, 5996 as before") {
		t.Errorf("again: %d %s", code, out)
	}
	if _, out, _ := b.suppress(t, "", "get", "u000500@x.example"); !strings.Contains(out, `says "no"`) || !strings.Contains(out, "complaint") {
		t.Errorf("a cell of two lines: %s", out)
	}
	for _, form := range []string{"csv", "ndjson"} {
		file := filepath.Join(dir, "all."+form)
		if code, _, errs := b.suppress(t, "", "export", file); code != 0 {
			t.Fatalf("export: %d %s", code, errs)
		}
		other := newAdminBed(t, t.TempDir())
		other.seed(t)
		if code, _, errs := other.suppress(t, "", "rm", "--all-tenants", "spamtrap@example.org"); code != 0 {
			t.Fatal(errs)
		}
		if code, out, errs := other.suppress(t, "", "import", "--all-tenants", "--wait", file); code != 0 || !strings.Contains(out, "5997 added") {
			t.Errorf("%s: %d %s %s", form, code, out, errs)
		}
		_, want, _ := b.suppress(t, "", "export")
		_, got, _ := other.suppress(t, "", "export")
		strip := func(s string) string { return regexp.MustCompile(`"by":"[^"]*"`).ReplaceAllString(s, "") }
		if strip(want) != strip(got) || strings.Count(got, "\n") != 6000 {
			t.Errorf("%s: what was exported and imported differs: %d and %d lines", form, strings.Count(want, "\n"), strings.Count(got, "\n"))
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.part-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
