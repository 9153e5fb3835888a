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
	// Feedback is where bounces, complaints and requests to unsubscribe come in.
	Feedback Feedback `json:"feedback"`
	// Delivery is how mail goes out, as far as policy does not say.
	Delivery Delivery `json:"delivery"`
	// Spool is the queue on disk.
	Spool Spool `json:"spool"`
	// Events is the event log on disk.
	Events Events `json:"events"`
	// Admin is the API that the command line tool and Prometheus ask.
	Admin Admin `json:"admin"`
	// Cluster is how this process and the others of its cluster know each other.
	Cluster Cluster `json:"cluster"`
	// Etcd is where the control plane keeps what all must agree on.
	Etcd Etcd `json:"etcd"`
	// Gossip is how nodes hear of each other's health and of early warnings.
	Gossip Gossip `json:"gossip"`
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

// Feedback is where bounces, complaints and requests to unsubscribe come in. Both
// listeners take them for the tenants of the whole cluster, by tokens that the
// cluster key proves.
type Feedback struct {
	// SMTPListen is the address and port to which the MX of tenants' return_path domains leads, as "127.0.0.1:2526" behind another mail server or ":25". Default none.
	SMTPListen string `json:"smtp_listen"`
	// HTTPListen is the address and port of the one-click endpoint behind tenants' unsubscribe_url, as "127.0.0.1:8026" behind a proxy that ends TLS. Default none.
	HTTPListen string `json:"http_listen"`
	// Hostname is the name in the SMTP banner. Default: node.hostname.
	Hostname string `json:"hostname"`
	// CertFile holds the certificate chain in PEM: STARTTLS for SMTP, TLS for HTTP. It is read again when it changes.
	CertFile string `json:"cert_file"`
	// KeyFile holds the private key in PEM.
	KeyFile string `json:"key_file"`
	// Addresses take reports beside those at return-path domains: the ones that were given to feedback loops. Mail there that is no report is refused.
	Addresses []string `json:"addresses"`
	// MaxMessageSize bounds a report in bytes, 65536 to 10485760. Default 1048576 (1 MiB).
	MaxMessageSize int `json:"max_message_size"`
	// MaxPerClient is how many messages a second one address (IPv6: a /64) may bring, with bursts of ten times as many. Default 50.
	MaxPerClient int `json:"max_per_client"`
	// ProxyNetworks are HTTP proxies that name the client in X-Forwarded-For, and SMTP load balancers that name it in a PROXY header.
	ProxyNetworks []policy.Network `json:"proxy_networks"`
	// FormerKeyFiles hold cluster keys of before, whose return paths and links still count: for 30 and 180 days after the change.
	FormerKeyFiles []string `json:"former_key_files"`
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

// Cluster is how the processes of a cluster know each other.
type Cluster struct {
	// Roles are what this process does: all (the default), node (carries mail) or control (decides). The flag --roles wins.
	Roles string `json:"roles"`
	// Listen is the address and port for other nodes and the control plane. Default 127.0.0.1 with a free port. Any other than loopback needs cert_file, key_file and ca_file.
	Listen string `json:"listen"`
	// Advertise is the address and port by which others reach listen. Default: listen.
	Advertise string `json:"advertise"`
	// CertFile holds this machine's certificate chain in PEM, for both ends of a connection between machines. Its names or addresses must be those that are advertised.
	CertFile string `json:"cert_file"`
	// KeyFile holds its private key in PEM.
	KeyFile string `json:"key_file"`
	// CAFile holds the certificates in PEM that sign those of the cluster. Nobody else is let in.
	CAFile string `json:"ca_file"`
	// SecretFile holds the cluster key, as made by "hikyaku secret cluster-key": it seals passwords and private keys in etcd. The same on every machine. Default cluster.key in the data directory, made there if etcd.endpoints is empty.
	SecretFile string `json:"secret_file"`
	// Labels say what kind of node this is; a source's labels pick among nodes by them.
	Labels map[string]string `json:"labels"`
	// Capacity is how large a part of the sources this node takes beside others, 1 to 1000. Default 100.
	Capacity int `json:"capacity"`
	// Programs are the absolute paths of those that the attach and detach commands of sources may run on this machine. Default none.
	Programs []string `json:"programs"`
	// LeaseTTL is how long a node counts as alive without a sign. Default 10s. The sources of a node that has died are elsewhere after lease_ttl and quarantine.
	LeaseTTL policy.Duration `json:"lease_ttl"`
	// LeaseMargin is how much earlier a node stops by itself, for clocks that run apart. Default 2s.
	LeaseMargin policy.Duration `json:"lease_margin"`
	// Quarantine is how long nobody sends from the source of a node that has died, so that its last connections have ended. Default 10s.
	Quarantine policy.Duration `json:"quarantine"`
}

// Etcd is where the control plane keeps its state.
type Etcd struct {
	// Endpoints are the client addresses of an etcd cluster, "10.0.0.1:2379" or "https://etcd1.example.net:2379". Empty runs one inside this process, with its data in the data directory. The flag --join wins.
	Endpoints []string `json:"endpoints"`
	// Prefix is where everything lies in it. Default /hikyaku/.
	Prefix string `json:"prefix"`
	// CAFile holds the certificates in PEM that sign those of the servers. Default: the machine's authorities, for https endpoints.
	CAFile string `json:"ca_file"`
	// CertFile holds the certificate in PEM by which the servers know this client.
	CertFile string `json:"cert_file"`
	// KeyFile holds its private key in PEM.
	KeyFile string `json:"key_file"`
	// Username logs in.
	Username string `json:"username"`
	// PasswordFile holds the password of the login.
	PasswordFile string `json:"password_file"`
	// Listen is the client address and port, on loopback, of the etcd inside this process, for tools like etcdctl. Default: a socket below the data directory, which only its owner may open.
	Listen string `json:"listen"`
}

// Gossip is how nodes hear of each other.
type Gossip struct {
	// Listen is the address and port for gossip, TCP and UDP. Default: none where etcd runs inside this process, else 127.0.0.1:7946. With "off" there is none.
	Listen string `json:"listen"`
	// Advertise is the address and port by which others reach listen. Default: listen.
	Advertise string `json:"advertise"`
}

// Log is what the process writes about itself.
type Log struct {
	// Level is debug, info, warn or error. Default info.
	Level string `json:"level"`
	// Format is text or json. Default text.
	Format string `json:"format"`
}
