package transfer

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// Options say what a Transfer works on. Name, Spool, Host and Address are
// required.
type Options struct {
	Name  string // this node's
	Spool *spool.Store
	Host  Host
	// Address gives the base URL of a node's peer listener, without the path:
	// "https://10.0.0.2:7946".
	Address func(node string) (url string, err error)
	Client  *http.Client // with the cluster's credentials; nil: http.DefaultClient
	Logger  *slog.Logger
	Now     func() time.Time

	ParcelBytes  int           // content in a parcel, about; 1 MiB
	MaxParcel    int64         // the largest that is taken; 128 MiB
	MaxReceiving int64         // bytes of parcels in memory at once; 256 MiB
	BytesASecond int64         // sent at most; 0 is no bound
	Retry        time.Duration // between two tries to learn who has a transfer, at least; 1 s
	Timeout      time.Duration // of one request; 1 min

	// UnsafeDeleteFirst deletes before the other node has answered, and
	// UnsafeReturnUnfenced takes any answer but "stored" for a fence. They exist
	// so that the tests can show that they see the loss and the second copy; they
	// are never set otherwise.
	UnsafeDeleteFirst, UnsafeReturnUnfenced bool
}

// Host is the node that deliveries leave and come to. Its methods may be called
// from several goroutines at once.
type Host interface {
	// Ready is nil when this node takes deliveries; else the error says why not.
	Ready() error
	// Arriving is asked before a parcel is stored, and may refuse it with an
	// error, which the sender is told. end is called once: with nil when its
	// deliveries are here, durably, and this node's from now on; else none of
	// them came. events go into the same batch.
	Arriving(p *spool.Parcel) (events []byte, end func(error), err error)
	// Holding gives the scopes of the holds that keep any of the deliveries from
	// going out; the other node's Arriving sees them in the parcel.
	Holding(ds []*message.Delivery) []message.Scope
	// Leaving gives the events of deliveries that are about to be deleted here
	// because another node has them.
	Leaving(to spool.Peer, ds []*message.Delivery) (events []byte)
	// Left is called when that is durable.
	Left(to spool.Peer, ds []*message.Delivery)
	// Returned is called for deliveries that are this node's again, or still.
	Returned(ds []*message.Delivery)
	// Unfit is called for those that cannot be handed over at all.
	Unfit(ds []*message.Delivery)
	// Order carries out what another node was told about deliveries that it had
	// handed over. It returns when that is durable.
	Order(o *Order) error
}

// Transfer is both ends of handing deliveries over, for one node. Safe for
// concurrent use.
type Transfer struct {
	o        Options
	log      *slog.Logger
	received memory
	pace     pace
	count    counters
	wake     chan struct{} // capacity 1: Run looks again
	mu       struct {
		sync.Mutex
		greeted map[string]greeting // by node
		open    map[uint64]*unknown // transfers of which it is not known who has them
		told    map[string]uint64   // by spool: the floor that it knows of
		names   map[string]string   // by spool: its node
	}
}

// unknown is a transfer whose outcome must be asked for.
type unknown struct {
	spool.Transfer
	next  time.Time // not before
	wait  time.Duration
	why   string // what keeps it open
	stuck bool   // asking again does not help: an operator must
}

// New makes a Transfer. What is open in the spool is asked for once Run runs.
func New(o Options) (*Transfer, error) {
	if o.Name == "" || o.Spool == nil || o.Host == nil || o.Address == nil {
		return nil, errors.New("BUG: transfer.New needs Name, Spool, Host and Address")
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.ParcelBytes = cmp.Or(o.ParcelBytes, 1<<20)
	o.MaxParcel = cmp.Or(o.MaxParcel, 128<<20)
	o.MaxReceiving = max(cmp.Or(o.MaxReceiving, 256<<20), o.MaxParcel)
	o.Retry = cmp.Or(o.Retry, time.Second)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	t := &Transfer{o: o, log: o.Logger, wake: make(chan struct{}, 1)}
	t.received.most = o.MaxReceiving
	t.pace.perSecond = o.BytesASecond
	t.mu.greeted, t.mu.open = map[string]greeting{}, map[uint64]*unknown{}
	t.mu.told, t.mu.names = map[string]uint64{}, map[string]string{}
	for _, tr := range o.Spool.Transfers() {
		t.mu.open[tr.Number] = &unknown{Transfer: tr, wait: o.Retry, why: "the node was started again before it was known who has them"}
		t.mu.names[tr.To.Spool] = tr.To.Name
	}
	return t, nil
}

// memory bounds the bytes of parcels being received.
type memory struct {
	most int64
	mu   struct {
		sync.Mutex
		used int64
	}
}

func (m *memory) take(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.used+n > m.most {
		return false
	}
	m.mu.used += n
	return true
}

func (m *memory) give(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.used -= n
}

func (m *memory) used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.used
}
