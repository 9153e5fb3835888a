package notice

import (
	"strings"
	"time"

	"hikyaku/spool/message"
)

// text is the words of one kind of notice, in English and Japanese.
type text struct {
	subject, subjectJa string
	lead, leadJa       string
	close, closeJa     string
}

var words = [...]text{
	Failed: {
		subject: "Undelivered mail", subjectJa: "メールを配信できませんでした",
		lead:    "Your message could not be delivered to the recipients below. It will not be tried again.",
		leadJa:  "お送りいただいたメールは、次の宛先に配信できませんでした。再送は行われません。",
		close:   "Please check the address, or pass this notice to your support if the reason is not clear.",
		closeJa: "宛先をご確認ください。原因が不明な場合は、この通知を管理者にお見せください。",
	},
	Delayed: {
		subject: "Delayed mail (still being tried)", subjectJa: "メールの配信が遅れています",
		lead:    "Your message has not reached the recipients below yet. It is still being tried: you do not need to send it again.",
		leadJa:  "お送りいただいたメールは、次の宛先にまだ配信できていません。再送を続けますので、送り直す必要はありません。",
		close:   "You will be told if it cannot be delivered.",
		closeJa: "最終的に配信できなかった場合は、あらためてお知らせします。",
	},
	Delivered: {
		subject: "Delivered mail", subjectJa: "メールを配信しました",
		lead:   "Your message was delivered to the recipients below, as you asked to be told.",
		leadJa: "お送りいただいたメールは、次の宛先に配信されました（ご依頼による通知です）。",
	},
	Relayed: {
		subject: "Relayed mail", subjectJa: "メールを転送しました",
		lead:   "Your message was handed to the next server for the recipients below. That server sends no notices of delivery, so this is the last you hear of it unless it fails.",
		leadJa: "お送りいただいたメールは、次の宛先のサーバーに引き渡されました。そのサーバーは配信の通知に対応していないため、失敗した場合を除き、これ以上の通知はありません。",
	},
}

// jst is Japan's time, which has had no summer time since 1951.
var jst = time.FixedZone("JST", 9*60*60)

// human is the part for people.
func (b *builder) human() {
	var t strings.Builder
	n, w := b.n, &words[b.n.Kind]
	t.WriteString("This is the mail system at host " + safe(n.Host) + ".\n\n" + w.lead + "\n\n")
	b.humanRecipients(&t, &english)
	if w.close != "" {
		t.WriteString(w.close + "\n\n")
	}
	t.WriteString("----\n\nメールシステム " + safe(n.Host) + " からの自動通知です。\n\n" + w.leadJa + "\n\n")
	b.humanRecipients(&t, &japanese)
	if w.closeJa != "" {
		t.WriteString(w.closeJa + "\n")
	}
	b.quoted([]byte(strings.ReplaceAll(t.String(), "\n", "\r\n")))
	b.line()
}

// phrases are the words around a recipient.
type phrases struct {
	said, ours, until string
	zone              *time.Location
	time              string
}

var (
	english  = phrases{"The server %s said: ", "Reason: ", "Will be tried until ", time.UTC, "Mon, 02 Jan 2006 15:04 MST"}
	japanese = phrases{"サーバー %s の応答: ", "理由: ", "再送の期限: ", jst, "2006年1月2日 15:04 MST"}
)

func (b *builder) humanRecipients(t *strings.Builder, p *phrases) {
	for i := range b.n.Recipients {
		r := &b.n.Recipients[i]
		t.WriteString("  <" + safe(r.Address) + ">\n")
		if r.Reply.Code != 0 {
			said := p.ours
			if r.Reply.Fault == message.FaultNone && r.Host != "" {
				said = strings.Replace(p.said, "%s", safe(r.Host), 1)
			}
			t.WriteString("    " + said + safe(r.Reply.String()) + "\n")
		}
		if b.n.Kind == Delayed && !r.Until.IsZero() {
			t.WriteString("    " + p.until + r.Until.In(p.zone).Format(p.time) + "\n")
		}
		t.WriteString("\n")
	}
}
