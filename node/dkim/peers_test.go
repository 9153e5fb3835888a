package dkim_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hikyaku/bench/dns"
	"hikyaku/node/dkim"
)

// peerContents is what the peers are asked about: contents they accept at all.
// opendkim wants a Date and one Subject, dkimpy no white space before a colon;
// both take content from a transport, where it ends in CRLF.
func peerContents() (names, raws []string) {
	for _, c := range contents {
		if c.name == "signed already" || c.name == "white space before the colon" || c.name == "duplicates" || !strings.HasSuffix(c.raw, "\r\n") {
			continue
		}
		if !strings.Contains(c.raw, "\r\nDate: ") {
			c.raw = "Date: Sun, 22 Nov 2026 08:00:00 +0000\r\n" + c.raw
		}
		names, raws = append(names, c.name), append(raws, c.raw)
	}
	return names, raws
}

// dkimpyScript reads a line of JSON with the key records, then messages in
// base 64, one a line, and prints a line for each: "ok" or what is wrong.
const dkimpyScript = `
import base64, json, sys, dkim
records = {k.encode(): v.encode() for k, v in json.loads(sys.stdin.readline()).items()}
for line in sys.stdin:
    try:
        d = dkim.DKIM(base64.b64decode(line))
        bad = [i for i in range(2) if not d.verify(idx=i, dnsfunc=lambda name, timeout=5: records[name])]
        print("signatures %s do not verify" % bad if bad else "ok")
    except Exception as e:
        print(repr(e))
`

// dkimpy verifies both algorithms, with key records that it is handed.
func TestDkimpyVerifies(t *testing.T) {
	python := findDkimpy(t)
	s := mustSigners(t, rsaKey("example.com"), edKey("example.com"))
	records, err := json.Marshal(map[string]string{
		"rsa._domainkey.example.com.": testKeys().rsaTXT, "ed._domainkey.example.com.": testKeys().edTXT,
	})
	if err != nil {
		t.Fatal(err)
	}
	names, raws := peerContents()
	names, raws = append(names, "control"), append(raws, header+"\r\nhello\r\n")
	input := string(records) + "\n"
	for i, raw := range raws {
		sig, err := s.AppendSignature(nil, "example.com", signedAt, []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if names[i] == "control" {
			raw = strings.Replace(raw, "hello", "hallo", 1)
		}
		input += base64.StdEncoding.EncodeToString([]byte(string(sig)+raw)) + "\n"
	}
	cmd := exec.Command(python, "-c", dkimpyScript)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != len(names) {
		t.Fatalf("%v: %s", err, out)
	}
	for i, name := range names {
		if (lines[i] == "ok") == (name == "control") {
			t.Errorf("%s: %s\n%q", name, lines[i], raws[i])
		}
	}
}

func findDkimpy(t *testing.T) string {
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import dkim, nacl").Run() == nil {
			return python
		}
	}
	missingPeer(t, "dkimpy is missing: install the packages python3-dkim and python3-nacl")
	return ""
}

// opendkimEnv tells the test binary that it runs inside the namespaces made by
// TestOpenDKIMVerifies.
const opendkimEnv = "HIKYAKU_TEST_OPENDKIM"

// opendkim-testmsg asks the system's resolver, so it runs in a network and
// mount namespace whose resolver is our test server on 127.0.0.1:53. It knows
// RSA only.
func TestOpenDKIMVerifies(t *testing.T) {
	if os.Getenv(opendkimEnv) != "" {
		opendkimInside(t)
		return
	}
	if _, err := exec.LookPath("opendkim-testmsg"); err != nil {
		missingPeer(t, "opendkim-testmsg is missing: install the package opendkim-tools")
	}
	if exec.Command("unshare", "-rmn", "ip", "link", "set", "lo", "up").Run() != nil {
		missingPeer(t, "unshare -rmn or ip does not work here: install util-linux and iproute2, and run as root or allow user namespaces")
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-rmn", "sh", "-c",
		`mount --bind "$1" /etc/resolv.conf && ip link set lo up && exec "$2" -test.run '^TestOpenDKIMVerifies$' -test.v`, "sh", resolv, self)
	cmd.Env = append(os.Environ(), opendkimEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestOpenDKIMVerifies")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func opendkimInside(t *testing.T) {
	server, err := dns.Start(dkim.ZoneRecord("rsa", "example.com", testKeys().rsaTXT), "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	s := mustSigners(t, rsaKey("example.com"))
	names, raws := peerContents()
	for i, raw := range raws {
		sig, err := s.AppendSignature(nil, "example.com", signedAt, []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		run := func(all string) ([]byte, error) {
			cmd := exec.Command("opendkim-testmsg", "-C")
			cmd.Stdin = strings.NewReader(all)
			return cmd.CombinedOutput()
		}
		if out, err := run(string(sig) + raw); err != nil {
			t.Errorf("%s: %v: %s\n%q", names[i], err, out, string(sig)+raw)
		}
		// The control: it says no to what was changed.
		if _, err := run(string(sig) + strings.Replace(raw, "a@example.com", "x@example.com", 1)); err == nil && strings.Contains(raw, "a@example.com") {
			t.Errorf("%s: a changed message passed", names[i])
		}
	}
	if server.Asked("rsa._domainkey.example.com", "TXT") == 0 {
		t.Error("opendkim-testmsg never asked for the key")
	}
}

// The body hash of RFC 8463 appendix A, which uses relaxed/relaxed, and its
// key, whose public half must come out as the record printed there.
func TestRFC8463Vector(t *testing.T) {
	seed, err := base64.StdEncoding.DecodeString("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	txt, err := dkim.DNSRecord(key.Public())
	if err != nil || txt != "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" {
		t.Errorf("record %q, %v", txt, err)
	}
	const raw = "From: Joe SixPack <joe@football.example.com>\r\n" +
		"To: Suzie Q <suzie@shopping.example.net>\r\n" +
		"Subject: Is dinner ready?\r\n" +
		"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n" +
		"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n" +
		"\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
	sig, err := mustSigners(t, edKey("football.example.com")).AppendSignature(nil, "football.example.com", signedAt, []byte(raw))
	if err != nil || !strings.Contains(string(sig), "bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;") {
		t.Errorf("%v\n%s", err, sig)
	}
}

// RFC 6376 3.4.5: the example of canonical bodies, by its hash.
func TestRFC6376BodyExample(t *testing.T) {
	s := mustSigners(t, edKey("example.com"))
	hashOf := func(body string) string {
		sig, err := s.AppendSignature(nil, "example.com", signedAt, []byte("From: a@example.com\r\n\r\n"+body))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(sig), "bh=")
		h, _, _ := strings.Cut(rest, ";")
		return h
	}
	if hashOf(" C \r\nD \t E\r\n\r\n\r\n") != hashOf(" C\r\nD E\r\n") {
		t.Error("the two forms of RFC 6376 3.4.5 differ")
	}
	// RFC 6376 3.4.4: the hash of an empty body.
	if got := hashOf(""); got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Errorf("empty body: %s", got)
	}
}

func TestZoneRecord(t *testing.T) {
	txt := testKeys().rsaTXT
	record := dkim.ZoneRecord("s1", "example.com", txt)
	if !strings.HasPrefix(record, `s1._domainkey.example.com. IN TXT ( "v=DKIM1; k=rsa; p=`) {
		t.Errorf("record %s", record)
	}
	joined := ""
	for i, part := range strings.Split(record, `"`) {
		if i%2 == 1 {
			if len(part) > 255 {
				t.Errorf("string of %d bytes", len(part))
			}
			joined += part
		}
	}
	if joined != txt {
		t.Error("the strings do not add up to the text")
	}
}

func TestGenerateAndParse(t *testing.T) {
	for _, kind := range []string{dkim.RSA2048, dkim.Ed25519} {
		text, txt, err := dkim.Generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		key, err := dkim.ParseKey([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := dkim.DNSRecord(key.Public()); err != nil || again != txt {
			t.Errorf("%s: record %q, then %q, %v", kind, txt, again, err)
		}
	}
	if _, _, err := dkim.Generate("dsa"); err == nil {
		t.Error("an unknown kind was made")
	}
	if _, err := dkim.DNSRecord("no key"); err == nil {
		t.Error("a string is a key")
	}
}

// missingPeer skips, or fails where peers are required (make test).
func missingPeer(t testing.TB, text string) {
	t.Helper()
	if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
}
