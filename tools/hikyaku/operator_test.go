package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
	"hikyaku/node/events"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// fakeNode serves the admin API of a node that exists only in memory.
func fakeNode(t testing.TB) (string, *apitest.Node) {
	t.Helper()
	n := apitest.New()
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: n, Version: "test"})
	srv := httptest.NewServer(api.Guard(mux, api.GuardOptions{}))
	t.Cleanup(srv.Close)
	return srv.URL, n
}

// TestOperatorScripts runs the commands that ask a node, or work on files, as
// an operator would type them. Each script has a fake node of its own.
func TestOperatorScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/operator",
		Setup: func(e *testscript.Env) error {
			url, node := fakeNode(t)
			e.Setenv("API", url)
			e.Values["node"] = node
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"hik":       scriptHikyaku,
			"asked":     scriptAsked,
			"mkevents":  func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(writeEvents(ts.MkAbs(args[0]))) },
			"mkspool":   func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(writeSpool(ts.MkAbs(args[0]))) },
			"lockspool": scriptLockSpool,
		},
	})
}

// scriptHikyaku runs one command line in this process, against the fake node.
func scriptHikyaku(ts *testscript.TestScript, neg bool, args []string) {
	args = append([]string{"--api", ts.Getenv("API")}, args...)
	for i, a := range args {
		if dir, ok := strings.CutPrefix(a, "@"); ok && !strings.Contains(dir, ".") { // @dir is a path in the script's directory
			args[i] = ts.MkAbs(dir)
		}
	}
	code := run(args, strings.NewReader(""), ts.Stdout(), ts.Stderr())
	if (code != 0) != neg {
		ts.Fatalf("exit code %d", code)
	}
	if want := ts.Getenv("EXIT"); neg && want != "" && want != string(rune('0'+code)) {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}

// scriptAsked checks the verbs of the actions that reached the node.
func scriptAsked(ts *testscript.TestScript, _ bool, args []string) {
	var got []string
	for _, r := range ts.Value("node").(*apitest.Node).Asked() {
		got = append(got, r.Verb)
	}
	if g, w := strings.Join(got, " "), strings.Join(args, " "); g != w {
		ts.Fatalf("the node was asked to %q, want %q", g, w)
	}
}

func writeEvents(dir string) error {
	l, err := events.Open(events.Options{Dir: dir, Refill: func(uint64, func(uint64, []byte) error) error { return nil }})
	if err != nil {
		return err
	}
	for i, line := range apitest.Events() {
		l.Write(uint64(i+1), line)
	}
	return l.Close()
}

func openSpool(dir string) (*spool.Store, error) {
	return spool.Open(spool.Options{Dir: dir, FreeSpace: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil }})
}

func writeSpool(dir string) error {
	s, err := openSpool(dir)
	if err != nil {
		return err
	}
	id, err := message.ParseID(apitest.MessageID)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	m := &message.Message{ID: id, Sender: "news@shop.example", Tenant: "shop", Accepted: now, Via: "http", Deliveries: 1, Raw: []byte("Subject: x\r\n\r\nx\r\n")}
	d := &message.Delivery{
		ID: message.DeliveryID{Message: id}, Queue: message.QueueKey{Destination: "example.com", Priority: message.Normal, Tenant: "shop"},
		Due: now, Accepted: now, Expires: now.Add(time.Hour), Size: 17, Recipients: []message.Recipient{{Address: "a@example.com"}},
	}
	err = s.Append(context.Background(), &spool.Submission{Message: m, Deliveries: []*message.Delivery{d}})
	return errors.Join(err, s.Close())
}

// scriptLockSpool holds a spool open until the script ends.
func scriptLockSpool(ts *testscript.TestScript, _ bool, args []string) {
	s, err := openSpool(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
}
