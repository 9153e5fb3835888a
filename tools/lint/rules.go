package lint

// importRule says what the packages of a folder may import of this project. A
// pattern is a package, "folder/..." for a folder and all below it, or
// "folder/*" for those directly in it. The first rule that matches counts.
type importRule struct {
	packages string
	may      []string
	stdOnly  bool // nothing from outside the project but the standard library
}

// leaves are the words that every folder shares.
var leaves = []string{"spool/message", "controlplane/policy", "controlplane/catalogue", "controlplane/exchange", "controlplane/keyspace", "controlplane/lease", "controlplane/access"}

// importRules is the table of design.md section 6. It is about what a package is
// built of; its tests may import more, but never what imports everything.
var importRules = []importRule{
	{packages: "spool/message", stdOnly: true},
	{packages: "controlplane/policy", stdOnly: true},
	{packages: "controlplane/catalogue", may: []string{"controlplane/policy"}, stdOnly: true},
	{packages: "controlplane/exchange", stdOnly: true},
	{packages: "controlplane/keyspace", may: []string{"controlplane/policy"}, stdOnly: true},
	{packages: "controlplane/lease", stdOnly: true},
	{packages: "controlplane/access", may: []string{"controlplane/policy"}, stdOnly: true},
	{packages: "spool/...", may: leaves},
	{packages: "scheduler/...", may: leaves, stdOnly: true},
	{packages: "reputation/...", may: with(leaves, "reputation/...", "controlplane/manifest/strict"), stdOnly: true},
	{packages: "controlplane/allocate/...", may: leaves, stdOnly: true},
	{packages: "node/smtp/...", may: leaves},
	{packages: "node", may: with(leaves, "node/...", "spool", "spool/suppression", "scheduler", "reputation/...")},
	// Siblings in node do not know each other; a sibling's own folders (below)
	// belong to it.
	{packages: "node/...", may: with(leaves, "node/smtp", "spool", "spool/suppression", "scheduler", "reputation/...")},
	{packages: "controlplane/...", may: with(leaves, "controlplane/...", "reputation/...")},
	{packages: "bench/...", may: []string{"bench/...", "node/...", "controlplane/...", "spool/...", "scheduler/...", "reputation/..."}},
	{packages: "tools/hikyaku", may: []string{"tools/hikyaku/..."}},
	{packages: "tools/hikyaku/human", may: leaves},
	{packages: "tools/hikyaku/cli", may: with(leaves, "controlplane/client", "node/api/client", "tools/hikyaku/human")},
	// Packages of commands do not know each other; dev shows its farm as bench does.
	{packages: "tools/hikyaku/dev", may: with(commandsMay, "tools/hikyaku/bench")},
	{packages: "tools/hikyaku/...", may: commandsMay},
	{packages: "tools/...", may: []string{"..."}},
	{packages: "docs/...", may: nil, stdOnly: true},
}

// commandsMay is what commands of hikyaku are made of: the whole product, and the
// packages that commands share.
var commandsMay = []string{
	"bench/...", "node/...", "controlplane/...", "spool/...", "scheduler/...", "reputation/...",
	"tools/hikyaku/cli", "tools/hikyaku/human", "tools/hikyaku/mailbox", "tools/hikyaku/manifests", "tools/hikyaku/screen", "tools/hikyaku/eventlog",
	"tools/hikyaku/admin", "tools/hikyaku/build", "tools/hikyaku/config", "tools/hikyaku/peer",
}

func with(list []string, more ...string) []string {
	return append(append([]string{}, list...), more...)
}

// door is a library that only some packages may use, so that it can be changed
// or left in one place. Tests are free.
type door struct {
	library string // import path or the beginning of one
	only    []string
}

var doors = []door{
	{"github.com/cockroachdb/pebble", []string{"spool", "spool/suppression"}},
	{"github.com/valyala/fasthttp", []string{"node/ingest"}},
	{"github.com/miekg/dns", []string{"node/mx", "bench/..."}},
	{"github.com/emersion/go-msgauth", []string{"node/dkim"}},
	{"github.com/ebitengine/purego", []string{"node/dkim/libcrypto"}},
	{"github.com/hashicorp/memberlist", []string{"node/gossip"}},
	{"github.com/mailgun/raymond", []string{"node/compose"}},
	{"github.com/goccy/go-yaml", []string{"controlplane/manifest/..."}},
	{"github.com/danielgtaylor/huma", []string{"node/ingest", "node/api", "controlplane/api", "tools/hikyaku/admin"}},
	{"github.com/prometheus/client_golang", []string{"node/api", "controlplane/api"}},
	{"github.com/pires/go-proxyproto", []string{"node/ingest"}},
	{"golang.org/x/crypto/argon2", []string{"node/credential"}},
	{"github.com/spf13/cobra", []string{"tools/..."}},
	{"github.com/charmbracelet", []string{"tools/..."}},
	{"github.com/HdrHistogram", []string{"bench/..."}},
	{"net/smtp", []string{"bench/...", "tools/..."}}, // its dot writer lets bare CR and NUL through
	{"net/textproto", []string{"node/compose"}},
	{"go.etcd.io", []string{"controlplane/store/...", "controlplane", "node/control/...", "tools/hikyaku/serve"}},
	{"github.com/vishvananda/netlink", []string{"node/attach"}},
}

// virtualTime are the folders that are handed the time and never ask for it.
var virtualTime = []string{"scheduler/...", "reputation/...", "controlplane/allocate/..."}

// clocks are the functions of package time that ask the clock or wait for it.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}

// forbiddenNames say nothing about what is in a package.
var forbiddenNames = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared", "lib", "pkg", "internal"}

// topLevel is what may lie in the root, folders that Go sees. Others are added
// in design.md first.
var topLevel = []string{"node", "controlplane", "spool", "scheduler", "reputation", "bench", "tools", "docs"}

// Hard limits of lines. House style asks for half of them.
const (
	maxFunctionLines = 120
	maxFileLines     = 800
)
