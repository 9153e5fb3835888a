package feedback_test

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"hikyaku/controlplane/policy"
	receiver "hikyaku/node/feedback"
	"hikyaku/reputation/feedback"
)

func TestPolicyChangesCountAtOnce(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	to := d.returnPath(s)
	if r := d.Recipient(client, to); r != nil {
		t.Fatal(r)
	}
	d.set = &policy.Set{Tenants: map[string]*policy.Tenant{"acme": {ReturnPath: "new.acme.example"}}}
	if d.Recipient(client, to) == nil || d.Recipient(client, strings.Replace(to, "rp.acme", "new.acme", 1)) != nil {
		t.Error("the old domain is taken, or the new one is not")
	}
	d.set = &policy.Set{}
	if d.Recipient(client, to) == nil {
		t.Error("a tenant that is gone has mail taken")
	}
	if w := ask(d.OneClick(), "GET", "/"+d.keys.SealLink(s), "", ""); w.Code != 404 {
		t.Errorf("its page: %d", w.Code)
	}
	d.set = nil // before the first policy
	if d.Recipient(client, to) == nil {
		t.Error("mail is taken without a policy")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	d := newDesk(t, nil)
	addr := netip.MustParseAddr("10.0.0.0")
	for range 50_000 {
		addr = addr.Next()
		d.Recipient(addr, "x@rp.acme.example")
	}
	for i := range 140_000 {
		d.Remember(strconv.Itoa(i))
	}
	rates, replays, maxRates, maxReplays := d.Held()
	if rates > maxRates || replays > maxReplays || rates < maxRates/4 || replays < maxReplays/4 {
		t.Errorf("held: %d rates of %d, %d replays of %d", rates, maxRates, replays, maxReplays)
	}
}

// TestManyAtOnce is for the race detector, and for the count.
func TestManyAtOnce(t *testing.T) {
	d := newDesk(t, nil)
	const writers, each = 8, 50
	var wg sync.WaitGroup
	for w := range writers {
		from := netip.AddrFrom4([4]byte{10, 0, 1, byte(w)})
		wg.Go(func() {
			for range each {
				s := d.sent("ann@example.net")
				to := d.returnPath(s)
				if r := d.Recipient(from, to); r != nil {
					t.Error(r)
				}
				if err := d.Take(context.Background(), &receiver.Mail{Client: from, Recipients: []string{to}, Raw: []byte(postfix(to, "ann@example.net", "failed", "To: ann@example.net"))}); err != nil {
					t.Error(err)
				}
				if w := ask(d.OneClick(), "POST", "/"+d.keys.SealLink(s), form, feedback.OneClick); w.Code != 200 {
					t.Errorf("one click: %d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	if got := len(d.took()); got != 2*writers*each {
		t.Errorf("%d pieces of news, want %d", got, 2*writers*each)
	}
}

// FuzzTake gives the receiver mail at a good token: whatever it says, at most
// that recipient is concerned.
func FuzzTake(f *testing.F) {
	f.Add([]byte(postfix("x", "ann@example.net", "failed", "To: ann@example.net")), uint8(0))
	f.Add([]byte(arf("abuse", "ann@example.net", "To: ann@example.net")), uint8(0))
	f.Add([]byte("From: ann@example.net\r\nSubject: unsubscribe\r\n\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, which uint8) {
		d := newDesk(t, nil)
		s := d.sent("ann@example.net")
		to := []string{d.returnPath(s), d.keys.Seal(feedback.Unsubscribe, s) + "@rp.acme.example", "abuse@rp.acme.example", "fbl@loops.example"}[which%4]
		if err := d.Take(context.Background(), &receiver.Mail{Client: client, Sender: "x@example.org", Recipients: []string{to}, Raw: raw}); err != nil && codeOf(err) != 550 {
			t.Fatal(err)
		}
		for _, n := range d.took() {
			if which%4 > 1 || feedback.Normal(n.Recipient) != "ann@example.net" || n.Delivery != s.Delivery || n.Tenant != "acme" {
				t.Fatalf("to %s: %+v", to, n)
			}
		}
	})
}

func FuzzOneClick(f *testing.F) {
	f.Add("POST", "/off/x", form, feedback.OneClick)
	f.Add("POST", "/", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n")
	f.Add("GET", "/", "", "")
	f.Fuzz(func(t *testing.T, method, path, kind, body string) {
		for _, c := range method {
			if c < 'A' || c > 'Z' {
				return
			}
		}
		if method == "" || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " %?#\x7f") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r > '~' }) {
			return
		}
		d := newDesk(t, nil)
		if w := ask(d.OneClick(), method, path, kind, body); w.Code != 404 || len(d.took()) != 0 {
			t.Fatalf("without a token: %d", w.Code)
		}
		w := ask(d.OneClick(), method, "/"+d.keys.SealLink(d.sent("ann@example.net")), kind, body)
		if news := d.took(); len(news) > 0 && (method != "POST" || w.Code != 200 || !strings.Contains(body, "One-Click") && !strings.Contains(body, "%")) {
			t.Fatalf("%s %q %q: %d, %+v", method, kind, body, w.Code, news)
		}
	})
}
