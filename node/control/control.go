package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Defaults of the times that fencing rests on.
const (
	DefaultTTL        = 10 * time.Second
	DefaultMargin     = 2 * time.Second
	DefaultQuarantine = 10 * time.Second
	DefaultJoinWait   = 5 * time.Second
)

// Options make a Control. Client, Keys, Name, NodeID, DataDir and Node are
// needed; the other zero fields are defaults.
type Options struct {
	Client *clientv3.Client // the caller's, who closes it after Close
	Keys   keyspace.Keys
	Key    keyspace.Key // of the cluster; a node with another one is not let in

	Name     string
	NodeID   string // of the spool
	DataDir  string // its lock proves that no other process has this NodeID
	Version  string
	Peer     string // where other processes of the cluster reach this one
	Gossip   string
	Labels   map[string]string
	Capacity int

	// TTL of the lease, whole seconds. The margin is taken off its deadline.
	// Quarantine is how long a new holder waits for an old one to fade; use
	// that has ended is cut off after half of it.
	TTL, Margin, Quarantine time.Duration
	// Alone says that this process is the whole cluster by configuration: until
	// a leader has spoken the node may use all of each budget.
	Alone bool
	// JoinWait is how long Join waits for an etcd that does not answer.
	JoinWait time.Duration

	// HTTP makes the exchange; default a plain client. Scheme is "http" or
	// "https", Token the bearer token, "" for none.
	HTTP   *http.Client
	Scheme string
	Token  string

	Node   Node
	Attach Attacher // nil: no address is put on an interface
	// OnMachine says why an address cannot be sent from, nil when it can.
	// Default: it is bound to, and let go.
	OnMachine func(netip.Addr) error

	Logger *slog.Logger
	Now    func() time.Time // for records that people read; default time.Now
	Unsafe Unsafe
}

// Unsafe switches protections off, for the negative controls of fault tests.
type Unsafe struct {
	// TrustSession fences by the etcd client's own word alone, which comes late.
	TrustSession bool
	// GrantsForever never lets grants run out.
	GrantsForever bool
}

// Node is what Control tells and asks. The calls come from Control's own
// goroutines, one at a time each, and must not block on Control.
type Node interface {
	// FillReport adds what the node knows: Revision, Draining, Queued,
	// Stranded, PerSecond, Demands, Signals, SpoolFreePart, and the Backlog of
	// each of r.Sources.
	FillReport(r *exchange.Report)
	// Unsent takes back what a report counted since the one before: it did not
	// reach the leader.
	Unsent(r *exchange.Report)
	// UseSources says which sources may be used from now on, all of them.
	UseSources(held map[string]*Hold)
	// UseGrants says what may be used of budgets from now on.
	UseGrants(Grants)
	// UseHomes says which nodes hold sources of the pools that have none here.
	UseHomes([]exchange.Home)
	// Drain says whether the node shall take new mail.
	Drain(on bool)
}

// Grants is what a node may use of the budgets that span nodes.
type Grants struct {
	// Lease is the one that permits are counted by; another one than before
	// means that counting begins anew. 0 before the first registration.
	Lease int64
	// Revision is that of the policy by which List was reckoned.
	Revision int64
	// Floor, Rank and Members are always in force.
	Floor, Rank, Members int64
	// Until is when List ends, with its monotonic reading; zero: there is none,
	// and only the floor is left.
	Until time.Time
	List  []exchange.Grant
}

// Attacher puts a source's address on an interface and takes it off, if the
// source asks for that (node/attach). All may be called again after a failure or
// a crash.
type Attacher interface {
	// Sweep takes off what earlier processes have left, but for what keep says.
	Sweep(ctx context.Context, keep func(source string) bool) error
	Attach(ctx context.Context, name string, epoch int64, s *policy.Source) error
	// Detach takes the address off that was attached under this epoch or before.
	Detach(ctx context.Context, name string, epoch int64, s *policy.Source) error
}

// Control is the node's side of the control plane.
type Control struct {
	opt       Options
	log       *slog.Logger
	floor     *floorFile
	kick      chan struct{} // the source loop shall look again
	report    chan struct{} // the exchange shall not wait for its second
	answer    chan *answered
	addresses chan struct{}  // a place for each that is attached or detached at the moment
	jobs      sync.WaitGroup // attaching, ending: owned by Run
	count     counters
	joined    bool // by Join; then Run need not
	began     time.Time
	hurried   atomic.Int64 // when Hurry was last heeded, in nanoseconds since began

	root atomic.Pointer[context.Context] // of jobs, while Run runs

	mu struct {
		sync.Mutex
		reg      *registration // nil: not registered
		lease    int64         // of the last registration, also when lost
		leader   leaderSeen
		leaving  bool
		set      *policy.Set
		assigned map[string]keyspace.Assignment // to this node, by source
		others   map[string]netip.Addr          // that other nodes hold, by source
		loaded   bool                           // both have been read
		tenures  map[string]*tenure
		stuck    map[string]int64 // epochs of sources whose address could not be taken off
		ended    map[string]int64 // by source: the highest epoch whose use has ended
		alarms   map[string]string
		force    inForce
		last     time.Time // of an exchange
	}
}

// New checks the options and reads what is on disk. Nothing is asked of etcd yet.
func New(o Options) (*Control, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	c := &Control{opt: o, log: o.Logger, began: time.Now(), kick: make(chan struct{}, 1), report: make(chan struct{}, 1), answer: make(chan *answered), addresses: make(chan struct{}, attachAtOnce)}
	if c.floor, err = openFloor(o.DataDir, o.Alone); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	m := &c.mu
	m.assigned, m.others = map[string]keyspace.Assignment{}, map[string]netip.Addr{}
	m.stuck = map[string]int64{}
	m.tenures, m.ended, m.alarms = map[string]*tenure{}, map[string]int64{}, map[string]string{}
	f := c.floor.now()
	m.force = inForce{floor: f.Floor, rank: f.Rank, members: f.Members}
	if c.floor.damaged != "" {
		c.alarmLocked("floor", c.floor.damaged)
	}
	return c, nil
}

func (o Options) withDefaults() (Options, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.TTL, DefaultTTL)
	def(&o.Margin, min(DefaultMargin, o.TTL/4))
	def(&o.Quarantine, DefaultQuarantine)
	def(&o.JoinWait, DefaultJoinWait)
	if o.Scheme == "" {
		o.Scheme = "http"
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{}
	}
	if o.OnMachine == nil {
		o.OnMachine = bindable
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Client == nil, o.Node == nil, o.Name == "", o.NodeID == "", o.DataDir == "":
		return o, errors.New("client, node, name, node id and data directory are needed")
	case o.TTL < 2*time.Second || o.TTL%time.Second != 0 || o.TTL > 10*time.Minute:
		return o, fmt.Errorf("lease TTL %s: want whole seconds from 2s to 10m", o.TTL)
	case o.Margin < 0 || o.Margin > o.TTL/2:
		return o, fmt.Errorf("lease margin %s: want at most half of the TTL, %s", o.Margin, o.TTL/2)
	case o.Quarantine < time.Second:
		return o, fmt.Errorf("quarantine %s: want at least 1s", o.Quarantine)
	}
	return o, nil
}

// UsePolicy takes a new snapshot of sources. The node's own and pinned ones
// are known to Node.UseSources soon after.
func (c *Control) UsePolicy(set *policy.Set) {
	c.mu.Lock()
	c.mu.set = set
	c.mu.Unlock()
	c.look()
}

// look asks the source loop to look again.
func (c *Control) look() { nudge(c.kick) }

func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is about to
	}
}

// Run keeps the registration, the sources and the exchange until ctx ends, then
// gives the sources back and leaves. The node's sessions must have ended by
// then, or they are cut off. It returns an error only if the node may not be
// what it claims to be (see Join).
func (c *Control) Run(ctx context.Context) error {
	if !c.joined {
		if err := c.Join(ctx); err != nil {
			return err
		}
	}
	jobs, endJobs := context.WithCancel(context.WithoutCancel(ctx)) // they outlive ctx: leaving needs them
	defer endJobs()
	c.root.Store(&jobs)
	c.applyFloor()
	loops, endLoops := context.WithCancel(jobs)
	defer endLoops()
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){c.watchSources, c.watchLeader, c.stayRegistered, c.sourceLoop, c.addressLoop, c.exchangeLoop, c.grantLoop} {
		wg.Go(func() { loop(loops) })
	}
	<-ctx.Done()
	c.leave(jobs)
	endLoops()
	wg.Wait()
	c.jobs.Wait()
	return nil
}

// Close lets go of what New opened. Call it after Run has returned.
func (c *Control) Close() error {
	c.opt.HTTP.CloseIdleConnections()
	return nil
}
