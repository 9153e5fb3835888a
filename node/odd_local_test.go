package node

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// TestOddLocalPartsFromDoorToDoor: what Japan's carriers gave out until 2009 comes
// in by SMTP and HTTP in both spellings, and goes out as the carrier wants it.
func TestOddLocalPartsFromDoorToDoor(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr),
		resource("docomo", &policy.Carrier{Domains: []string{"docomo.test"}, OddLocalParts: policy.OddQuoted}),
		resource("asis", &policy.Carrier{Domains: []string{"asis.test"}, OddLocalParts: policy.OddAsGiven}))
	sent := map[string]string{ // as given: as it is to arrive
		"abc..def@docomo.test":  `"abc..def"@docomo.test`,
		`"ghi..j"@docomo.test`:  `"ghi..j"@docomo.test`,
		"abc.@docomo.test":      `"abc."@docomo.test`,
		".abc@docomo.test":      `".abc"@docomo.test`,
		"plain.one@docomo.test": "plain.one@docomo.test",
		"abc..def@asis.test":    "abc..def@asis.test",
		`"ghi..j"@asis.test`:    `"ghi..j"@asis.test`,
		`"abc..def"@plain.test`: `"abc..def"@plain.test`, // quoted, it is what the RFC allows
		`"x y>"@plain.test`:     `"x y>"@plain.test`,
	}
	refused := []string{"abc..def@plain.test", "abc.@plain.test"}
	c := dialSMTP(t, w)
	c.cmd("EHLO client.test", "250")
	for address := range sent {
		c.cmd("MAIL FROM:<s@s.test>", "250")
		c.cmd("RCPT TO:<"+address+">", "250")
		for _, no := range refused {
			if reply := c.cmd("RCPT TO:<"+no+">", "501"); !strings.Contains(reply, "dots") {
				t.Errorf("%s: %q", no, reply)
			}
		}
		c.cmd("DATA", "354")
		c.cmd("From: <s@s.test>\r\n\r\nby SMTP\r\n.", "250")
	}
	c.cmd("QUIT", "221")
	for address := range sent {
		body := fmt.Sprintf(`{"from": {"email": "s@s.test"}, "subject": "x", "text": "by HTTP", "to": [{"email": %q}, {"email": %q}, {"email": "abc..def@plain.test"}]}`, address, address)
		resp, answer := request(t, http.MethodPost, "http://"+w.http.Addr().String()+"/v1/messages", body)
		if resp.StatusCode != http.StatusAccepted || !strings.Contains(answer, "dots") || !strings.Contains(answer, "duplicate") {
			t.Errorf("%s by HTTP: %d %s", address, resp.StatusCode, answer)
		}
	}
	until(t, "all to arrive", func() bool { return len(r.all()) >= 2*len(sent) })
	var got, want []string
	for _, d := range r.all() {
		got = append(got, d.to...)
	}
	for given, arrives := range sent {
		want = append(want, arrives, arrives)
		if message.SuppressionKey(given) != message.SuppressionKey(arrives) {
			t.Errorf("%s and %s have two keys", given, arrives)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("arrived:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.empty()
}
