package node

import (
	"crypto/x509"
	"log/slog"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/node/events"
	"hikyaku/node/ingest"
	"hikyaku/node/mx"
	"hikyaku/scheduler"
	"hikyaku/spool"
)

// Config is all that New needs. Zero fields are defaults but for Name, DataDir
// and Policy.
type Config struct {
	Name     string
	Hostname string
	DataDir  string
	Version  string
	Logger   *slog.Logger

	Policy PolicySource
	// Control joins the node to a control plane; nil: it is alone, and all
	// sources and budgets are its own.
	Control NewControl

	// Hinter spreads warnings to other nodes; nil: there are none.
	Hinter Hinter
	// Transfer is how deliveries get to other nodes; nil: there are none.
	Transfer *TransferConfig

	// Members names the nodes that are known now, this one or not; with Transfer,
	// how they are reached, the suppression list is the same on all of them.
	Members func() []string
	// Feedback is how what comes back comes in; nil: tenants' return paths and
	// unsubscribe links are not used.
	Feedback *FeedbackConfig

	SMTP             []ingest.SMTPListener
	HTTP             *ingest.HTTPListener // nil: none
	MaxContentMemory int64                // of SMTP content coming in

	Delivery  DeliveryConfig
	Resolver  mx.Config
	Spool     spool.Options // Dir is set by New
	Events    events.Options
	Scheduler scheduler.Config

	// HandoffBytes bounds content kept in memory for first attempts. Default 256 MiB.
	HandoffBytes int
	// DrainTimeout is how long the end of Run waits for transactions in hand. Default 30s.
	DrainTimeout time.Duration
	Now          func() time.Time
}

// DeliveryConfig is how mail goes out, as far as policy does not say.
type DeliveryConfig struct {
	Port          uint16 // default 25
	AllowNetworks []policy.Network
	RootCAs       *x509.CertPool
	Timeouts      *delivery.Timeouts
	Client        delivery.Options
	// EHLOEpoch makes the EHLO name "<node>.e<epoch>.<source>.test" where there
	// is a control plane: for tests, whose receivers tell by it who is speaking.
	EHLOEpoch bool
}

// PolicySource is where the node's policy comes from: a store in the same
// process, later a watch on the control plane.
type PolicySource interface {
	// Snapshot is the policy in force now.
	Snapshot() *policy.Set
	// Subscribe calls fn with each new snapshot until stop.
	Subscribe(fn func(*policy.Set)) (stop func())
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.HandoffBytes == 0 {
		c.HandoffBytes = 256 << 20
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Delivery.Port == 0 {
		c.Delivery.Port = 25
	}
	return c
}
