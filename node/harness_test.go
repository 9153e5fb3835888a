package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/events"
	"hikyaku/node/ingest"
	"hikyaku/node/mx"
	"hikyaku/spool/message"
)

// patience is how long a test waits for what must come about.
const patience = 20 * time.Second

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// policies is a policy source that tests change.
type policies struct {
	mu struct {
		sync.Mutex
		set      *policy.Set
		watchers map[int]func(*policy.Set)
		next     int
	}
}

func (p *policies) Snapshot() *policy.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.set
}

func (p *policies) Subscribe(fn func(*policy.Set)) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.mu.next
	p.mu.next++
	p.mu.watchers[id] = fn
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.mu.watchers, id)
	}
}

// use puts resources in force.
func (p *policies) use(t testing.TB, rs ...policy.Resource) {
	t.Helper()
	set, err := policyOf(rs)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	if p.mu.watchers == nil {
		p.mu.watchers = map[int]func(*policy.Set){}
	}
	if p.mu.set != nil {
		set.Revision = p.mu.set.Revision + 1
	}
	p.mu.set = set
	var tell []func(*policy.Set)
	for _, fn := range p.mu.watchers {
		tell = append(tell, fn)
	}
	p.mu.Unlock()
	for _, fn := range tell {
		fn(set)
	}
}

// policyOf makes a set of resources. Waits of streams and carriers may be
// shorter than policy allows: a test has no minute to spare.
func policyOf(rs []policy.Resource) (*policy.Set, error) {
	var fix []func(*policy.Set)
	rs = slices.Clone(rs)
	for i, r := range rs {
		switch spec := r.Spec.(type) {
		case *policy.Stream:
			c := *spec
			c.Expires, c.DelayNotice, c.Retry = 0, 0, nil
			rs[i].Spec = &c
			fix = append(fix, func(s *policy.Set) {
				st := s.Streams[r.Name]
				st.Expires, st.DelayNotice, st.Retry = cmp.Or(spec.Expires, st.Expires), cmp.Or(spec.DelayNotice, st.DelayNotice), cmp.Or(spec.Retry, st.Retry)
			})
		case *policy.Carrier:
			c := *spec
			c.Backoff, c.Retry = 0, nil
			rs[i].Spec = &c
			fix = append(fix, func(s *policy.Set) {
				cr := s.Carriers[r.Name]
				cr.Backoff, cr.Retry = cmp.Or(spec.Backoff, cr.Backoff), cmp.Or(spec.Retry, cr.Retry)
			})
		}
	}
	set, problems := policy.New(rs)
	if problems != nil {
		return nil, problems
	}
	for _, fn := range fix {
		fn(set)
	}
	return set, nil
}

func resource(name string, spec any) policy.Resource {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", spec), "*policy.")
	return policy.Resource{Kind: kind, Name: name, Spec: spec}
}

func networks(texts ...string) (ns []policy.Network) {
	for _, s := range texts {
		ns = append(ns, policy.Network{Prefix: netip.MustParsePrefix(s)})
	}
	return ns
}

// toSink routes everything to an address on loopback.
func toSink(addr string) policy.Resource {
	return resource("sink", &policy.Route{Domains: []string{"*"}, Hosts: []string{addr}, AllowNetworks: networks("127.0.0.0/8"), TLS: "none"})
}

// soon is a retry schedule for tests: without jitter, at once.
func soon(waits ...time.Duration) *policy.Retry {
	r := &policy.Retry{Jitter: new(int)}
	for _, w := range waits {
		r.Schedule = append(r.Schedule, policy.Duration(w))
	}
	return r
}

// world is a node with its surroundings.
type world struct {
	*Node
	t      testing.TB
	cfg    Config
	policy *policies
	stop   context.CancelFunc
	ended  chan error
}

// newWorld starts a node. Mail goes nowhere unless the resources say so.
func newWorld(t testing.TB, change func(*Config), rs ...policy.Resource) *world {
	t.Helper()
	w := &world{t: t, policy: &policies{}}
	w.policy.use(t, rs...)
	w.cfg = Config{
		Name: "n1", Hostname: "node.test", DataDir: t.TempDir(), Policy: w.policy, DrainTimeout: 5 * time.Second,
		SMTP:     []ingest.SMTPListener{{Listen: "127.0.0.1:0", RelayNetworks: networks("127.0.0.0/8")}},
		HTTP:     &ingest.HTTPListener{Listen: "127.0.0.1:0", OpenNetworks: networks("127.0.0.0/8")},
		Resolver: mx.Config{Servers: []string{"127.0.0.1:9"}, Attempts: 1, Timeout: 200 * time.Millisecond}, // nobody there
		Events:   events.Options{SyncInterval: 10 * time.Millisecond},
	}
	w.cfg.Spool.FreeSpace = func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }
	if change != nil {
		change(&w.cfg)
	}
	w.start()
	t.Cleanup(w.close)
	return w
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.Node, err = New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.ended = make(chan error, 1)
	n := w.Node
	go func() { w.ended <- n.Run(ctx) }() // waited for by close
	until(w.t, "the node to be ready", func() bool {
		select {
		case err := <-w.ended:
			w.t.Fatalf("Run ended: %v", err)
		default:
		}
		return len(n.NotReady()) == 0
	})
}

// close ends the node, and checks that nothing of it goes on.
func (w *world) close() {
	w.t.Helper()
	if w.stop == nil {
		return
	}
	w.stop()
	w.stop = nil
	select {
	case err := <-w.ended:
		if err != nil {
			w.t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		w.t.Fatalf("Run does not end:\n%s", stacks())
	}
	if err := w.Node.Close(); err != nil {
		w.t.Errorf("Close: %v", err)
	}
	until(w.t, "all goroutines of the node to end", func() bool { return len(ownGoroutines()) == 0 })
}

// restart ends the node in peace and starts it again on the same directory.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.start()
}

func stacks() string {
	b := make([]byte, 8<<20)
	return string(b[:runtime.Stack(b, true)])
}

// ownGoroutines are those that run code of the project and no test.
func ownGoroutines() (out []string) {
	for _, g := range strings.Split(stacks(), "\n\n") {
		if strings.Contains(g, "hikyaku/") && !strings.Contains(g, "_test.go") && !strings.Contains(g, "hikyaku/bench/") {
			out = append(out, g)
		}
	}
	return out
}

// mail is a short way to a submission.
type mail struct {
	from, tenant, stream, pool, job, priority string
	to                                        []string
	oneEach                                   bool
	sendAt, expires                           time.Time
	notify                                    message.Notify
	tags                                      []string
	body                                      string
}

// submit hands mail to the acceptance path, as ingest does.
func (w *world) submit(m mail) (message.ID, error) {
	w.t.Helper()
	msg := &message.Message{Sender: m.from, Tenant: m.tenant, Stream: m.stream, Pool: m.pool, Job: m.job, Tags: m.tags, Via: "smtp", From: "127.0.0.1"}
	if msg.Tenant == "" {
		msg.Tenant = policy.DefaultName
	}
	msg.Raw = []byte("From: <" + m.from + ">\r\nSubject: test\r\n\r\n" + m.body + "\r\n")
	if _, domain, ok := strings.Cut(m.from, "@"); ok {
		msg.HeaderFrom = domain
	}
	s := &ingest.Submission{Message: msg, OneEach: m.oneEach, SendAt: m.sendAt, Expires: m.expires}
	if m.priority != "" {
		s.PriorityGiven = true
		msg.Priority, _ = message.ParsePriority(m.priority)
	}
	for _, to := range m.to {
		s.Recipients = append(s.Recipients, message.Recipient{Address: to, Notify: m.notify})
	}
	err := w.Accept(context.Background(), s)
	return msg.ID, err
}

// send is submit that must succeed.
func (w *world) send(m mail) message.ID {
	w.t.Helper()
	id, err := w.submit(m)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// refused is submit that must be refused.
func (w *world) refused(m mail) *ingest.Refusal {
	w.t.Helper()
	_, err := w.submit(m)
	var r *ingest.Refusal
	if !errors.As(err, &r) {
		w.t.Fatalf("accepted, or an error for nobody: %v", err)
	}
	return r
}

// log reads the event log.
func (w *world) log(q api.EventQuery) (es []message.EventRecord) {
	w.t.Helper()
	_, err := w.SearchEvents(context.Background(), q, func(line []byte) error {
		var e message.EventRecord
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		es = append(es, e)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return es
}

// types counts events by type.
func types(es []message.EventRecord) map[message.EventType]int {
	m := map[message.EventType]int{}
	for i := range es {
		m[es[i].Type]++
	}
	return m
}

// empty waits until nothing is queued.
func (w *world) empty() {
	w.t.Helper()
	until(w.t, "the queue to be empty", func() bool {
		st := w.spool.Stats()
		return st.Counted && st.Deliveries == 0
	})
}

// deliveryOf reads one delivery as it stands.
func (w *world) deliveryOf(id message.ID, index uint16) *message.Delivery {
	w.t.Helper()
	st, err := w.spool.Status(message.DeliveryID{Message: id, Index: index})
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Queued
}

// waitFor waits for events of one kind about a message.
func (w *world) waitFor(id message.ID, typ message.EventType, n int) []message.EventRecord {
	w.t.Helper()
	var found []message.EventRecord
	until(w.t, fmt.Sprintf("%d %s of %s", n, typ, id), func() bool {
		found = w.log(api.EventQuery{ID: id.String(), Type: string(typ)})
		return len(found) >= n
	})
	return found
}

// balance checks that the counters say what the event log says, and that every
// accepted recipient has at most one end (design.md 5.2).
func (w *world) balance() {
	w.t.Helper()
	var es []message.EventRecord
	var got, want map[message.EventType]int
	settle := time.Now().Add(patience / 2) // outcomes may be between spool and log
	until(w.t, "the counters to be read", func() bool {
		c := &w.count
		want = map[message.EventType]int{
			message.EventAccepted: int(c.acceptedRecipients.Load()), message.EventDelivered: int(c.delivered.Load()), message.EventBounced: int(c.bounced.Load()),
			message.EventExpired: int(c.expired.Load()), message.EventCancelled: int(c.cancelled.Load()), message.EventDeferred: int(c.deferred.Load()),
		}
		es = w.log(api.EventQuery{})
		got = types(es)
		got[message.EventBounced] += got[message.EventSuppressed] // the same end, by another word
		for typ, n := range want {
			if got[typ] != n {
				return time.Now().After(settle)
			}
		}
		return true
	})
	for typ, n := range want {
		if got[typ] != n {
			w.t.Errorf("%s: %d in the event log, %d counted", typ, got[typ], n)
		}
	}
	checkLedger(w.t, es)
}

// checkLedger finds recipients that ended twice, or without a beginning.
func checkLedger(t testing.TB, es []message.EventRecord) {
	t.Helper()
	type rcpt struct {
		id message.DeliveryID
		to string
	}
	begun, ended := map[rcpt]int{}, map[rcpt]int{}
	for _, e := range es {
		switch k := (rcpt{e.ID, e.Recipient}); e.Type {
		case message.EventAccepted:
			begun[k]++
		case message.EventDelivered, message.EventBounced, message.EventExpired, message.EventCancelled, message.EventSuppressed:
			ended[k]++
		}
	}
	for k, n := range begun {
		if n != 1 {
			t.Errorf("%v accepted %d times", k, n)
		}
	}
	for k, n := range ended {
		if n != 1 || begun[k] != 1 {
			t.Errorf("%v ended %d times, accepted %d times", k, n, begun[k])
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("HIKYAKU_NODE_CHILD") != "" {
		childNode()
		return
	}
	os.Exit(m.Run())
}
