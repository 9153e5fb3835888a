package config_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hikyaku/controlplane/keyspace"
	"hikyaku/tools/hikyaku/config"
)

func TestDefaultsTakeMailFromThisMachineOnly(t *testing.T) {
	c, err := config.Load("")
	if err != nil {
		t.Fatal(err)
	}
	s := c.Ingest.SMTP
	if len(s) != 1 || s[0].Listen != "127.0.0.1:2525" || fmt.Sprint(s[0].RelayNetworks) != "[127.0.0.0/8 ::1/128]" {
		t.Errorf("smtp: %+v", s)
	}
	if h := c.Ingest.HTTP; h.Listen != "127.0.0.1:8025" || fmt.Sprint(h.OpenNetworks) != "[127.0.0.0/8 ::1/128]" {
		t.Errorf("http: %+v", h)
	}
	if c.Admin.Listen != "127.0.0.1:8080" || c.Delivery.Port != 25 || len(c.Delivery.AllowNetworks) != 0 || c.Resolver().IsValid() {
		t.Errorf("%+v %+v", c.Admin, c.Delivery)
	}
	if c.Path("spool") != "hikyaku-data/spool" || c.Node.Name == "" {
		t.Errorf("%+v", c.Node)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("the defaults must not warn: %v", w)
	}
}

// TestIssueExample is the example that users were promised, letter by letter.
func TestIssueExample(t *testing.T) {
	c, err := config.Parse("hikyaku.yaml", []byte(`node: {name: tokyo-1, data_dir: ./hikyaku-data}
ingest:
  smtp: [{listen: 127.0.0.1:2525, relay_networks: [127.0.0.0/8], line_endings: reject}]
  http: {listen: 127.0.0.1:8025, open_networks: [127.0.0.0/8]}
delivery: {port: 25, resolver: "127.0.0.1:53", allow_networks: []}
admin: {listen: 127.0.0.1:8080}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Node.Name != "tokyo-1" || c.Ingest.SMTP[0].LineEndings != "reject" || c.Resolver().String() != "127.0.0.1:53" || fmt.Sprint(c.Ingest.SMTP[0].RelayNetworks) != "[127.0.0.0/8]" {
		t.Errorf("%+v", c)
	}
}

func TestListenersCanBeSwitchedOff(t *testing.T) {
	c, err := config.Parse("f", []byte("ingest: {smtp: [], http: {listen: 'off'}}"))
	if err != nil || len(c.Ingest.SMTP) != 0 || c.Ingest.HTTP != nil {
		t.Errorf("%+v %v", c, err)
	}
	// A listener of one's own opens nothing that is not asked for.
	c, err = config.Parse("f", []byte("ingest: {smtp: [{listen: '127.0.0.1:26'}], http: {max_recipients: 5}}"))
	if err != nil || len(c.Ingest.SMTP[0].RelayNetworks) != 0 || c.Ingest.HTTP.Listen != "127.0.0.1:8025" || len(c.Ingest.HTTP.OpenNetworks) != 0 {
		t.Errorf("%+v %v", c, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"node: {nmae: x}":                           `f:1:8: node.nmae: unknown key "nmae"; did you mean "name"?`,
		"nodes: {}":                                 `did you mean "node"?`,
		"node: {name: 'a b'}":                       "f:1:14: node.name: ",
		"node: {hostname: 'a..b'}":                  "node.hostname: ",
		"ingest:\n  smtp:\n    - listen: nowhere\n": "f:3:15: ingest.smtp[0].listen: ",
		"ingest: {smtp: [{listen: '127.0.0.1:1', max_recipients: 5}]}":      "f:1:57: ingest.smtp[0].max_recipients: 5: want 100 to",
		"ingest: {smtp: [{listen: '127.0.0.1:1', require_tls: true}]}":      "ingest.smtp[0].require_tls: needs tls",
		"ingest: {http: {listen: x}}":                                       "f:1:25: ingest.http.listen: ",
		"ingest: {smtp: [{listen: '127.0.0.1:8080'}]}":                      "admin.listen: 127.0.0.1:8080 is the address of ingest.smtp[0] too",
		"delivery: {resolver: dns.example.com}":                             "f:1:22: delivery.resolver: ",
		"cluster: {roles: boss}":                                            `f:1:18: cluster.roles: "boss" is none of all, node, control`,
		"cluster: {roles: node}":                                            "set etcd.endpoints, or --join",
		"cluster: {listen: '10.0.0.1:8081'}":                                "f:1:19: cluster.listen: 10.0.0.1:8081 can be reached from the network",
		"cluster: {listen: ':8081', cert_file: a, key_file: b, ca_file: c}": "set cluster.advertise",
		"cluster: {advertise: nowhere}":                                     "cluster.advertise: ",
		"cluster: {cert_file: a}":                                           "give all three or none",
		"cluster: {labels: {rack: 'a b'}}":                                  "cluster.labels: ",
		"cluster: {lease_ttl: 1s, lease_margin: 500ms}":                     "f:1:22: cluster.lease_ttl: 1s is out of range",
		"cluster: {lease_margin: 6s}":                                       "at most half of lease_ttl (10s)",
		"etcd: {endpoints: ['http://']}":                                    "f:1:20: etcd.endpoints[0]: ",
		"etcd: {endpoints: ['ftp://a:1']}":                                  "want https://host:port",
		"etcd: {prefix: x}":                                                 "etcd.prefix: ",
		"etcd: {listen: '0.0.0.0:2379'}":                                    "run etcd of its own, with TLS",
		"etcd: {username: u}":                                               "give both or none",
		"gossip: {listen: 'x'}":                                             "gossip.listen: ",
		"feedback: {smtp_listen: '25'}":                                     "feedback.smtp_listen: \"25\": want address:port",
		"feedback: {http_listen: '127.0.0.1:8080'}":                         "admin.listen: 127.0.0.1:8080 is the address of feedback.http_listen too",
		"feedback: {smtp_listen: '127.0.0.1:2525'}":                         "feedback.smtp_listen: 127.0.0.1:2525 is the address of ingest.smtp[0] too",
		"feedback: {addresses: [fbl@]}":                                     "feedback.addresses[0]: \"fbl@\": want local@domain",
		"feedback: {cert_file: a}":                                          "feedback.cert_file: cert_file and key_file: give both or none",
		"feedback: {max_message_size: 1}":                                   "feedback.max_message_size: 1 is out of range: want 65536 to 10485760",
		"feedback: {hostname: 'a b'}":                                       "feedback.hostname: \"a b\" is no host name",
		"delivery: {port: 70000}":                                           "delivery.port: want a whole number from 0 to 65535",
		"admin: {listen: '0.0.0.0:8080'}":                                   "f:1:17: admin.listen: 0.0.0.0:8080 can be reached from the network",
		"admin: {listen: ':8080'}":                                          "can be reached from the network",
		"admin: {listen: '[::]:8080', cert_file: x, key_file: y}":           "set admin.token_file",
		"admin: {cert_file: x}":                                             "give both or none",
		"log: {level: loud}":                                                "f:1:14: log.level: ",
		"spool: {status_retention: 1s}":                                     "spool.status_retention: 1s is out of range: want 1m to 30d",
		"node: {name: a}\n---\nkind: Route\nname: x\n":                      "f:3:1: want one document",
	} {
		_, err := config.Parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(strings.Repeat("a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("f", []byte(`
ingest:
  smtp: [{listen: "0.0.0.0:25", relay_networks: [10.0.0.0/8, 0.0.0.0/0, 192.0.2.0/24, "fc00::/7", "::/0"]}]
  http: {listen: "0.0.0.0:80", open_networks: [172.0.0.0/8]}
admin: {listen: "0.0.0.0:8080", token_file: `+token+`}`))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{"0.0.0.0/0", "192.0.2.0/24", "::/0", "172.0.0.0/8", "ingest.http.listen 0.0.0.0:80 has no TLS", "admin.listen 0.0.0.0:8080 has no TLS"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning about %s:\n%s", want, all)
		}
	}
	if len(c.Warnings()) != 6 {
		t.Errorf("want 6 warnings:\n%s", all)
	}
	if got, err := c.Token(); err != nil || got != strings.Repeat("a", 32) {
		t.Errorf("token %q %v", got, err)
	}
	if err := os.WriteFile(token, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Files(); err == nil || strings.Contains(err.Error(), "short\"") || !strings.Contains(err.Error(), "at least 16") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("node: {name: tokyo-1}\ningest:\n  smtp: [{listen: 127.0.0.1:2525, relay_networks: [127.0.0.0/8]}]\nadmin: {listen: '[::1]:80'}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := config.Parse("f", b)
		if err != nil {
			return
		}
		c.Warnings()
		c.LogLevel()
		c.Resolver()
	})
}

func TestFlagsWinOverTheFile(t *testing.T) {
	c, err := config.Parse("f", []byte("cluster: {roles: control}"))
	if err != nil || c.Carries() || !c.Decides() || c.Gossip.Listen != config.Off {
		t.Fatalf("%+v %v", c, err)
	}
	if err := c.Override("node", nil); err == nil || !strings.Contains(err.Error(), "--join") {
		t.Errorf("a node without a control plane: %v", err)
	}
	if err := c.Override("node", []string{"10.0.0.1:2379"}); err != nil || !c.Carries() || c.Decides() || c.Gossip.Listen == config.Off {
		t.Errorf("%+v %v", c, err)
	}
	if err := c.Override("", []string{"nowhere"}); err == nil {
		t.Error("an endpoint without a port was taken")
	}
}

func TestPortsOfListenersAreNotTakenByChance(t *testing.T) {
	c, err := config.Parse("f", []byte("admin: {listen: '127.0.0.1:4001'}\ningest: {smtp: [{listen: '127.0.0.1:4002'}], http: {listen: 'off'}}"))
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int]bool{4001: true, 4002: true, 4003: false} {
		if got := c.Uses(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); got != want {
			t.Errorf("port %d is used: %v, want %v", port, got, want)
		}
	}
	c.Cluster.Listen = "127.0.0.1:4001" // asked for: the error is the operator's to see
	if c.Uses(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4001}) {
		t.Error("a port that was asked for counts as taken by chance")
	}
}

func TestFormerKeys(t *testing.T) {
	_, text := keyspace.NewKey()
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	if err := errors.Join(os.WriteFile(good, []byte(text), 0o600), os.WriteFile(bad, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	f := config.Feedback{FormerKeyFiles: []string{good}}
	if keys, err := f.FormerKeys(); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	for _, path := range []string{bad, filepath.Join(dir, "none")} {
		f.FormerKeyFiles = []string{good, path}
		if _, err := f.FormerKeys(); err == nil || !strings.Contains(err.Error(), "feedback.former_key_files[1]") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
