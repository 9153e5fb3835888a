package feedback

import "strings"

// TraceHeader is the field that ties a returned message to its recipient when
// its return path is lost. It does not begin with X-Hikyaku: those are orders to
// our own ingest, which refuses the ones it does not know.
const TraceHeader = "Hikyaku-Trace"

// OneClick is the body of a one-click request (RFC 8058 3.1).
const OneClick = "List-Unsubscribe=One-Click"

// ReturnAddress is the envelope sender of one recipient's mail: a token at the
// tenant's return-path domain.
func (k *Keys) ReturnAddress(s *Subject, domain string) string {
	return k.Seal(ReturnPath, s) + "@" + domain
}

// TraceValue is the value of TraceHeader.
func (k *Keys) TraceValue(s *Subject) string { return k.Seal(Trace, s) }

// ListUnsubscribe gives the values of List-Unsubscribe and List-Unsubscribe-Post
// (RFC 8058 3.1); both fields must be covered by the DKIM signature, so they are
// added before it is made. url is the tenant's unsubscribe_url, domain its
// return-path domain; without the latter there is no mailto, without the former
// there is no one-click, and the second value is "". Long values are folded
// between the two links.
func (k *Keys) ListUnsubscribe(s *Subject, url, domain string) (links, post string) {
	var web, mail string
	if token := k.SealLink(s); url != "" && token != "" {
		web = "<" + strings.TrimSuffix(url, "/") + "/" + token + ">"
		post = OneClick
		if domain != "" {
			mail = "<mailto:" + k.Seal(Unsubscribe, s) + "@" + domain + "?subject=unsubscribe%20" + token + ">"
		}
	} else if domain != "" {
		mail = "<mailto:" + k.Seal(Unsubscribe, s) + "@" + domain + "?subject=unsubscribe>"
		if token != "" {
			mail = strings.TrimSuffix(mail, ">") + "%20" + token + ">"
		}
	}
	switch {
	case web != "" && mail != "":
		return web + ",\r\n " + mail, post
	case web != "":
		return web, post
	}
	return mail, ""
}
