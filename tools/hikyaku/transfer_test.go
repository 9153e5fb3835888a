package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hikyaku/controlplane/access"
	policyapi "hikyaku/controlplane/api"
	clustertest "hikyaku/controlplane/api/apitest"
	"hikyaku/controlplane/state"
	"hikyaku/controlplane/store"
	"hikyaku/node/api/apitest"
	"hikyaku/tools/hikyaku/admin"
)

// restoredStore is a store whose etcd has gone back once.
type restoredStore struct {
	*store.File
	above          int64
	author, reason string
	accepted       bool
}

func (s *restoredStore) AcceptRestored(_ context.Context, above int64, author, role, reason string) (*store.Result, error) {
	if s.accepted {
		return nil, store.ErrNotRestored
	}
	s.above, s.author, s.reason, s.accepted = above, author+" "+role, reason, true
	return &store.Result{Revision: above + 1}, nil
}

// TestTransferScripts runs commands against a control plane over two nodes that
// live and one that is down. Each script has its own; node tokyo-1 has open
// transfers, and its policy is that of a restored etcd.
func TestTransferScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/transfer",
		Setup: func(e *testscript.Env) error {
			b := newAdminBed(t, e.Getenv("WORK")+"/.store")
			b.nodes["tokyo-1"].SetTransfers(apitest.StockTransfers())
			e.Setenv("API", b.url)
			e.Setenv("SPOOL", apitest.GoneSpool)
			ns, err := b.cluster.Nodes(context.Background())
			if err != nil {
				return err
			}
			for _, n := range ns {
				if n.Live {
					e.Setenv("LIVING", n.NodeID)
				}
			}
			e.Values["bed"] = b
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"hik": scriptHikyaku,
			// audited checks that a line of the audit log holds the words.
			"audited": func(ts *testscript.TestScript, neg bool, args []string) {
				found := false
				for _, x := range ts.Value("bed").(*adminBed).audit.Entries() {
					line := strings.Join([]string{x.Action, x.Scope, x.Reason, x.Result}, "|")
					found = found || strings.Contains(line, strings.Join(args, " "))
				}
				if found == neg {
					ts.Fatalf("audit log: %+v", ts.Value("bed").(*adminBed).audit.Entries())
				}
			},
		},
	})
}

func TestReclaimIsForAdmins(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	b.nodes["tokyo-1"].SetTransfers(apitest.StockTransfers())
	body := `{"spool":"` + apitest.GoneSpool + `","reason":"burnt"}`
	for _, path := range []string{"/v1/transfers/7/reclaim", "/v1/cluster/transfers/tokyo-1/7/reclaim"} {
		for _, x := range []struct {
			role   access.Role
			body   string
			status int
		}{
			{access.Tenant, body, 403}, {access.ReadOnly, body, 403}, {access.Operator, body, 403},
			{access.Admin, `{"reason":"burnt"}`, 422}, {access.Admin, `{"spool":"` + apitest.GoneSpool + `"}`, 422},
			{access.Admin, `{"spool":"` + apitest.GoneSpool + `","reason":" "}`, 422},
			{access.Admin, `{"spool":"another","reason":"burnt"}`, 409},
		} {
			if status, text := b.ask(t, x.role, "POST", path, x.body); status != x.status {
				t.Errorf("%s %s as %s: %d %s, want %d", path, x.body, x.role, status, text, x.status)
			}
		}
	}
	for _, role := range []access.Role{access.ReadOnly, access.Operator} {
		if status, text := b.ask(t, role, "GET", "/v1/cluster/transfers", ""); status != 200 || !strings.Contains(text, `"node":"tokyo-1","number":7`) {
			t.Errorf("%s: %d %s", role, status, text)
		}
	}
	if status, text := b.ask(t, access.Admin, "POST", "/v1/cluster/transfers/tokyo-1/7/reclaim", body); status != 200 || !strings.Contains(text, `"deliveries":12`) {
		t.Errorf("%d %s", status, text)
	}
}

// A reclaim may send mail twice, so it is not done unless somebody can find later
// who did it.
func TestReclaimNeedsTheAuditLog(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.nodes["tokyo-1"].SetTransfers(apitest.StockTransfers())
	mux := http.NewServeMux()
	admin.Register(mux, nil, &policyapi.Options{Store: b.store, Cluster: b.cluster, Audit: deafAudit{b.audit}, Peers: policyapi.HTTPPeers{Client: http.DefaultClient, Scheme: "http", Token: peerToken}})
	s := httptest.NewServer(access.New(mux, access.Options{}))
	defer s.Close()
	b.url = s.URL
	body := `{"spool":"` + apitest.GoneSpool + `","reason":"burnt"}`
	if status, text := b.ask(t, "", "POST", "/v1/cluster/transfers/tokyo-1/7/reclaim", body); status != 503 || !strings.Contains(text, "nothing was done") {
		t.Errorf("%d %s", status, text)
	}
	if ts, err := b.nodes["tokyo-1"].OpenTransfers(t.Context()); err != nil || len(ts) != 2 {
		t.Errorf("%+v %v", ts, err)
	}
}

// deafAudit cannot be written.
type deafAudit struct{ *auditLog }

type auditLog = clustertest.Audit

func (deafAudit) AppendAudit(context.Context, store.Entry) error { return errors.New("no space") }

// TestAcceptRestored: the new revision is above all that nodes have in force.
func TestAcceptRestored(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	s := &restoredStore{File: b.store}
	mux := http.NewServeMux()
	admin.Register(mux, nil, &policyapi.Options{Store: s, Cluster: ahead{b.cluster, 40}, Audit: b.audit})
	srv := httptest.NewServer(access.New(mux, access.Options{Policy: b.store.Snapshot}))
	defer srv.Close()
	b.url = srv.URL
	const path = "/v1/policy:accept-restored"
	for _, x := range []struct {
		role   access.Role
		body   string
		status int
		want   string
	}{
		{access.Operator, `{"reason":"restored"}`, 403, "admin"},
		{access.Admin, `{}`, 422, "reason"},
		{access.Admin, `{"reason":"  "}`, 422, "reason"},
		{access.Admin, `{"reason":"restored","above":30}`, 200, `"revision":41`},
		{access.Admin, `{"reason":"again"}`, 409, "nothing to accept"},
	} {
		if status, text := b.ask(t, x.role, "POST", path, x.body); status != x.status || !strings.Contains(text, x.want) {
			t.Errorf("%s as %s: %d %s, want %d %s", x.body, x.role, status, text, x.status, x.want)
		}
	}
	if s.above != 40 || s.author != "key-admin admin" || s.reason != "restored" {
		t.Errorf("accepted above %d by %q: %q", s.above, s.author, s.reason)
	}
}

// ahead is a cluster one of whose nodes has a newer policy in force.
type ahead struct {
	state.Cluster
	revision int64
}

func (c ahead) Nodes(ctx context.Context) ([]state.Node, error) {
	ns, err := c.Cluster.Nodes(ctx)
	ns[0].Revision = c.revision
	return ns, err
}
