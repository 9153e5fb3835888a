package feedback

import (
	"errors"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

// Bounds of a one-click request. RFC 8058's body has 26 bytes.
const (
	maxOneClickBody = 8 << 10
	maxFormParts    = 16
)

// OneClick is the endpoint of List-Unsubscribe links (RFC 8058). The token is the
// last element of the path, whatever stands before it. POST with
// List-Unsubscribe=One-Click in a form unsubscribes; GET, which scanners and
// previews make, shows a page with a button that does the same, without scripts.
//
// A token that is forged, cut or too old gets the same 404 as any other path,
// and no token is ever logged: it is as good as a password for one address.
func (r *Receiver) OneClick() http.Handler { return http.HandlerFunc(r.serveHTTP) }

func (r *Receiver) serveHTTP(w http.ResponseWriter, req *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	head.Set("Referrer-Policy", "no-referrer") // the address has the token
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Robots-Tag", "noindex, nofollow")
	client := r.clientOf(req)
	_, token, _ := cutLast(req.URL.Path, '/')
	s, err := r.o.Keys.OpenLink(token, r.o.Now())
	if set := r.o.Policy(); err != nil || set == nil || set.Tenants[s.Tenant] == nil {
		r.counters.badTokens.Add(1)
		r.refuse(w, client, http.StatusNotFound, pageUnknown)
		return
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		r.counters.pages.Add(1)
		r.page(w, http.StatusOK, pageAsk, masked(s.Recipient))
	case http.MethodPost:
		r.post(w, req, &s, client)
	default:
		head.Set("Allow", "GET, HEAD, POST")
		r.page(w, http.StatusMethodNotAllowed, pageUnknown, "")
	}
}

// post unsubscribes. Requests with a good token are bounded by their number under
// way, not by their rate: a mailbox provider makes all of its users' from a few
// addresses, and each one lost is a complaint.
func (r *Receiver) post(w http.ResponseWriter, req *http.Request, s *feedback.Subject, client netip.Addr) {
	select {
	case r.clicks <- struct{}{}:
		defer func() { <-r.clicks }()
	default:
		r.counters.busy.Add(1)
		w.Header().Set("Retry-After", "10")
		r.page(w, http.StatusServiceUnavailable, pageBusy, "")
		return
	}
	req.Body = http.MaxBytesReader(w, req.Body, maxOneClickBody)
	if err := isOneClick(req); err != nil {
		r.counters.badRequests.Add(1)
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		r.refuse(w, client, status, pageWrong)
		return
	}
	f := &Feedback{Type: message.EventUnsubscribed, Time: r.o.Now(), Delivery: s.Delivery, Tenant: s.Tenant, Stream: s.Stream,
		Recipient: s.Recipient, Form: "one-click", Via: "http", From: client.String()}
	if err := r.handle(req.Context(), f); err != nil {
		r.counters.failed.Add(1)
		r.o.Logger.Error("store one-click unsubscribe", "message", s.Delivery.String(), "error", err)
		w.Header().Set("Retry-After", "60")
		r.page(w, http.StatusServiceUnavailable, pageBusy, "")
		return
	}
	r.page(w, http.StatusOK, pageDone, masked(s.Recipient))
}

// isOneClick reads the body: form or multipart (RFC 8058 3.2), and asks for the
// one pair that says it.
func isOneClick(req *http.Request) error {
	kind, params, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil {
		return errors.New("no content type")
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return err
		}
		form, err := url.ParseQuery(string(b))
		if err == nil && form.Get("List-Unsubscribe") == "One-Click" {
			return nil
		}
	case "multipart/form-data":
		parts := multipart.NewReader(req.Body, params["boundary"])
		for range maxFormParts {
			p, err := parts.NextPart()
			if err != nil {
				return err
			}
			if p.FormName() != "List-Unsubscribe" {
				continue
			}
			if b, err := io.ReadAll(p); err == nil && strings.TrimSpace(string(b)) == "One-Click" {
				return nil
			}
			break
		}
	}
	return errors.New("not a one-click request")
}

// refuse answers what is wrong, as often as the client's rate allows: whoever
// tries out tokens is told to slow down. What is right is not counted.
func (r *Receiver) refuse(w http.ResponseWriter, client netip.Addr, status int, p *pageText) {
	if !r.limits.may(client, badRate, r.o.Limits.Bad, r.o.Now()) {
		r.counters.limited.Add(1)
		w.Header().Set("Retry-After", "10")
		status, p = http.StatusTooManyRequests, pageBusy
	}
	r.page(w, status, p, "")
}

// clientOf is who asks: the peer, or whom a proxy of ours names last in
// X-Forwarded-For. What stands before the last is the client's own word.
func (r *Receiver) clientOf(req *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	if !policy.AnyContains(r.o.Limits.ProxyNetworks, addr) {
		return addr
	}
	named := req.Header.Values("X-Forwarded-For")
	if len(named) == 0 {
		return addr
	}
	_, last, _ := cutLast(named[len(named)-1], ',')
	if a, err := netip.ParseAddr(strings.TrimSpace(last)); err == nil {
		return a.Unmap().WithZone("")
	}
	return addr
}

// cutLast is strings.Cut at the last separator; without one all is after it.
func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// masked shows enough of an address for its owner, and little to one who found a
// link of somebody else's.
func masked(address string) string {
	local, domain, ok := cutLast(address, '@')
	if !ok || local == "" {
		return "…"
	}
	first := []rune(local)[0]
	return string(first) + "…@" + domain
}

type pageText struct{ Title, Text, Button, TitleJA, TextJA, ButtonJA string }

var (
	pageAsk     = &pageText{"Unsubscribe", "Stop mail of this kind to %s?", "Unsubscribe", "配信停止", "%s への配信を停止しますか。", "配信を停止する"}
	pageDone    = &pageText{"Unsubscribed", "%s gets no more mail of this kind.", "", "配信停止しました", "%s への配信を停止しました。", ""}
	pageUnknown = &pageText{"Not found", "This link is not valid, or no longer.", "", "ページがありません", "このリンクは無効です。", ""}
	pageWrong   = &pageText{"Bad request", "This request is not understood. Open the link again and press the button.", "", "エラー", "リンクを開き直して、ボタンを押してください。", ""}
	pageBusy    = &pageText{"Try again", "Too much at the moment. Please try again a little later.", "", "しばらくお待ちください", "混み合っています。しばらくしてからもう一度お試しください。", ""}
)

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Title}} / {{.TitleJA}}</title></head>
<body>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
<div lang="ja"><h2>{{.TitleJA}}</h2>
<p>{{.TextJA}}</p></div>
{{if .Button}}<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click"><button type="submit">{{.Button}} / {{.ButtonJA}}</button></form>
{{end}}</body>
</html>
`))

// page writes one of the pages. address is shown where the text has a place for
// it; the template escapes it, since local parts may hold whatever they like.
func (r *Receiver) page(w http.ResponseWriter, status int, p *pageText, address string) {
	text := *p
	text.Text = strings.Replace(text.Text, "%s", address, 1)
	text.TextJA = strings.Replace(text.TextJA, "%s", address, 1)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, text) // the client is gone: nobody to tell
}
