package carriers_test

import (
	"fmt"
	"net/smtp"
	"testing"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/peers"
	"hikyaku/controlplane/policy"
)

// TestOneMessageForManyIsAsSlowAsTheRate: a message for more recipients than
// the carrier takes in one transaction is several messages to the carrier,
// whether the node knows of that bound or only the carrier says so.
func TestOneMessageForManyIsAsSlowAsTheRate(t *testing.T) {
	const profile = "name: parts-%[1]s\ndescription: a model for tests\nbased_on: [tests]\ndomains: [parts-%[1]s.test]\nmx: [{name: mx.parts-%[1]s.test}]\n" +
		"extensions: [PIPELINING]\nper_source: {rate: \"5/s,burst=1\"}\nrecipients_per_transaction: 1\n"
	var strict, told []*carriers.Profile
	for _, name := range []string{"told", "untold"} {
		p := custom(t, fmt.Sprintf(profile, name))[0]
		strict = append(strict, p)
		q := *p
		if name == "untold" {
			q.RecipientsPerTransaction = 100
		}
		told = append(told, &q)
	}
	f := farm(t, carriers.FarmOptions{Profiles: strict, OnViolation: func(v carriers.Violation) {
		if v.Limit != "recipients_per_transaction" {
			t.Errorf("violation by %d: %+v", v.By(), v)
		}
	}})
	text, err := farm(t, carriers.FarmOptions{Profiles: told}).Policy(carriers.PolicyOptions{Retry: []policy.Duration{policy.Duration(time.Second)}, Backoff: policy.Duration(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Resolver: f.DNS, Port: f.Port, Policy: string(text)})
	for _, p := range strict {
		var to []string
		for i := range 8 {
			to = append(to, fmt.Sprintf("r%d@%s", i, p.Domains[0]))
		}
		if err := smtp.SendMail(h.SMTP, nil, "news@shop.test", to, []byte("From: <news@shop.test>\r\nSubject: Hello\r\n\r\nHello\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	peers.Until(t, 60*time.Second, "all to arrive", func() bool {
		n := uint64(0)
		for _, s := range f.Snapshot() {
			n += uint64(s.Delivered)
		}
		return n >= 16
	})
	logStates(t, f)
}
