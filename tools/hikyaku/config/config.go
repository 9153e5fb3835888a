package config

import (
	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
)

// Config is hikyaku.yaml.
type Config struct {
	// Node is who this machine is and where it keeps its data.
	Node Node `json:"node"`
	// Ingest is where mail comes in.
	Ingest Ingest `json:"ingest"`
	// Delivery is how mail goes out, as far as policy does not say.
	Delivery Delivery `json:"delivery"`
	// Spool is the queue on disk.
	Spool Spool `json:"spool"`
	// Events is the event log on disk.
	Events Events `json:"events"`
	// Admin is the API that the command line tool and Prometheus ask.
	Admin Admin `json:"admin"`
	// Log is what the process writes about itself, to standard error.
	Log Log `json:"log"`
}

// Node is who this machine is.
type Node struct {
	// Name tells nodes apart in events and metrics: letters, digits, '.', '_' and '-'. Default: the first label of the machine's host name.
	Name string `json:"name"`
	// Hostname is the full host name: in banners, EHLO, Received headers and Message-IDs, wherever a listener or source names none. Default: the machine's.
	Hostname string `json:"hostname"`
	// DataDir holds the queue, the event log and the policy. Default ./hikyaku-data.
	DataDir string `json:"data_dir"`
	// DrainTimeout is how long SIGTERM waits for transactions under way. Default 30s.
	DrainTimeout policy.Duration `json:"drain_timeout"`
}

// Ingest is where mail comes in.
type Ingest struct {
	// SMTP are the SMTP listeners. Default: one on 127.0.0.1:2525 that relays for loopback. An empty list is none.
	SMTP []ingest.SMTPListener `json:"smtp"`
	// HTTP is the listener of the HTTP API. Default: one on 127.0.0.1:8025, open to loopback. With listen: "off" there is none.
	HTTP *ingest.HTTPListener `json:"http"`
	// MaxContentMemory bounds the memory lent to SMTP content that is coming in, over all connections, in bytes; beyond it 452 4.3.1. Default 1073741824 (1 GiB).
	MaxContentMemory int64 `json:"max_content_memory"`
}

// Delivery is how mail goes out.
type Delivery struct {
	// Port is where MX hosts are asked. Default 25.
	Port uint16 `json:"port"`
	// Resolver is the DNS server, "address" or "address:port". Default: those of /etc/resolv.conf.
	Resolver string `json:"resolver"`
	// AllowNetworks are private, loopback, link-local and other special networks that mail may be delivered to. Default none.
	AllowNetworks []policy.Network `json:"allow_networks"`
	// MaxConnections bounds open connections to all hosts together. Default 10000.
	MaxConnections int `json:"max_connections"`
	// DeadHostTime is how long an address that took no connection is tried last. Default 10m.
	DeadHostTime policy.Duration `json:"dead_host_time"`
	// BrokenTLSTime is how long an address whose STARTTLS failed is spoken to in plain where TLS is opportunistic. At most 72h. Default 72h.
	BrokenTLSTime policy.Duration `json:"broken_tls_time"`
}

// Spool is the queue on disk.
type Spool struct {
	// MinFreeBytes is the free disk space below which new mail is refused for the time being. Default 536870912 (512 MiB).
	MinFreeBytes uint64 `json:"min_free_bytes"`
	// MinFreePercent is the same as a share of the disk; the larger of the two counts. Default 2.
	MinFreePercent int `json:"min_free_percent"`
	// StatusRetention is how long the end state of a delivery can be asked for. Default 1h.
	StatusRetention policy.Duration `json:"status_retention"`
	// JobRetention is how long the counters of an ended job are kept. Default 30d.
	JobRetention policy.Duration `json:"job_retention"`
	// CacheBytes is the block cache. Default 67108864 (64 MiB).
	CacheBytes int64 `json:"cache_bytes"`
	// MemTableBytes is the size of one of up to four write buffers. Default 67108864 (64 MiB).
	MemTableBytes uint64 `json:"memtable_bytes"`
}

// Events is the event log on disk.
type Events struct {
	// Retention is how long events are kept. Default 7d.
	Retention policy.Duration `json:"retention"`
	// RetentionBytes is how much they may take on disk, compressed; the oldest go first. Default 21474836480 (20 GiB).
	RetentionBytes int64 `json:"retention_bytes"`
}

// Admin is the API that the command line tool and Prometheus ask.
type Admin struct {
	// Listen is the address and port. Default 127.0.0.1:8080. Any other than loopback needs a token.
	Listen string `json:"listen"`
	// TokenFile holds the bearer token that every request must bring. Default: no token, loopback clients only.
	TokenFile string `json:"token_file"`
	// CertFile holds the certificate chain in PEM and switches TLS on.
	CertFile string `json:"cert_file"`
	// KeyFile holds the private key in PEM.
	KeyFile string `json:"key_file"`
	// Hosts are names under which the API may be asked without a token, beside localhost and plain addresses.
	Hosts []string `json:"hosts"`
	// Pprof serves Go's profiles under /debug/pprof/.
	Pprof bool `json:"pprof"`
}

// Log is what the process writes about itself.
type Log struct {
	// Level is debug, info, warn or error. Default info.
	Level string `json:"level"`
	// Format is text or json. Default text.
	Format string `json:"format"`
}
