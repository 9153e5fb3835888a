package feedback

// systemSenders are parts of the From of mail systems, in lower case.
var systemSenders = []string{"mailer-daemon", "mailer_daemon", "mailerdaemon", "postmaster", "post_master", "mail-daemon", "maildaemon", "mdaemon", "mail delivery", "mail.delivery",
	"mail system", "maildelivery", "mail_delivery", "mail administrator", "system administrator", "delivery-subsystem", "delivery subsystem", "noreply@nmomta", "no-reply@app.auone-net", "no-reply@",
	"double-bounce", "mmdf", "microsoft exchange", "microsoftexchange", "internet mail service", "bounces+", "message router", "smtp gateway", "mailfilter", "quotamanager", "<>"}

// bounceSubjects are parts of subjects of bounces, in lower case.
var bounceSubjects = []string{"undeliver", "not deliver", "non deliver", "nondeliver", "non-deliver", "delivery fail", "delivery has failed", "delivery error", "delivery problem", "delivery status", "delivery notif",
	"delivery report", "delivery unsuccess", "delivery incomplete", "delivery delay", "delivery warning", "failure notice", "failure delivery", "failed delivery", "failed mail", "mail failed", "mail failure", "message failure", "returned mail", "returned message", "returned to sender",
	"return to sender", "mail could not be", "message could not be", "could not send", "could not be sent", "cannot send", "can't send", "unable to deliver", "mail delivery", "message delivery",
	"message status", "mail status", "bounced", "bounce message", "user unknown", "unknown user", "unknown address", "nondeliverable", "there was an error sending", "mail system error", "mail error", "message not delivered", "error sending", "message you sent blocked", "message blocked", "rejected: ", "considered unsolicited", "warning: could not send",
	"unzustell", "nicht zugestellt", "unable to relay", "non remis", "échec", "echec de", "devuelto", "no entregado", "não entregue", "impossibile recapitare", "mancato recapito", "niet bezorg", "недостав", "не доставлено", "退信"}

// prosePhrases are what bounces say, with the form that they give away. A text
// with one of them is a bounce whoever sent it, so they are whole sentences.
var prosePhrases = []struct{ words, form string }{
	{"hi. this is the qmail-send program", "qmail"},
	{"hi. this is the", "qmail"},
	{"i'm afraid i wasn't able to deliver your message", "qmail"},
	{"i wasn't able to deliver your message", "qmail"},
	{"this message was created automatically by mail delivery software", "exim"},
	{"a message that you sent could not be delivered to", "exim"},
	{"a message that you have sent could not be delivered to", "exim"},
	{"the following address(es) failed", "exim"},
	{"this is the mail system at host", "postfix"},
	{"this is the postfix program at host", "postfix"},
	{"i'm sorry to have to inform you that your message could not", "postfix"},
	{"the following addresses had permanent fatal errors", "sendmail"},
	{"the following addresses had permanent delivery errors", "sendmail"},
	{"the following addresses had transient non-fatal errors", "sendmail"},
	{"the following addresses had delivery problems", "biglobe"},
	{"the following addresses have delivery notifications", "sendmail"},
	{"transcript of session follows", "sendmail"},
	{"did not reach the following recipient", "exchange"},
	{"delivery has failed to these recipients", "exchange"},
	{"couldn't be delivered to", "exchange"},
	{"this is an automatically generated delivery status notification", "gmail"},
	{"delivery to the following recipient failed permanently", "gmail"},
	{"delivery to the following recipient has been delayed", "gmail"},
	{"delivery to the following recipients failed", "gmail"},
	{"your message wasn't delivered to", "gmail"},
	{"there was a temporary problem while delivering your message to", "gmail"},
	{"we were unable to deliver your message to the following", "yahoo"},
	{"unable to deliver message to the following address", "yahoo"},
	{"message from yahoo", "yahoo"},
	{"was not delivered to:", "domino"},
	{"not listed in domino directory", "domino"},
	{"not listed in public name", "domino"},
	{"the user(s) account is", "ezweb"},
	{"each of the following recipients was rejected by a remote", "ezweb"},
	{"the following recipients did not receive this message", "ezweb"},
	{"your message was not delivered within", "ezweb"},
	{"could not be delivered to: <", "kddi"},
	{"this is the dragonfly mail agent", "dragonfly"},
	{"running the courier mail server", "courier"},
	{"this is the courier mail server", "courier"},
	{"error has occurred while attempting to deliver a message", "opensmtpd"},
	{"failed addresses follow", "smail"},
	{"no valid recipients were found for this message", "smail"},
	{"mta error", "text"},
	{"your message cannot be delivered to the following recipients", "messagingserver"},
	{"recipient address:", "messagingserver"},
	{"the message that you sent was undeliverable to the following", "groupwise"},
	{"the mailer-daemon at", "gmx"},
	{"this message was created automatically by the mail system", "gmx"},
	{"ein fehler bei der zustellung", "gmx"},
	{"unknown user:", "imail"},
	{"undeliverable to", "imail"},
	{"your mail message to the following address(es) could not be delivered", "text"},
	{"the following recipients returned permanent errors", "text"},
	{"the following message to <", "ses"},
	{"error message below", "text"},
	{"could not be delivered to the following", "text"},
	{"could not deliver the message to the following recipient", "text"},
	{"could not deliver the following message", "text"},
	{"was undeliverable", "text"},
	{"your message could not be delivered", "text"},
	{"your email could not be delivered", "text"},
	{"your mail could not be delivered", "text"},
	{"message could not be delivered", "text"},
	{"your message was rejected by", "text"},
	{"your e-mail was rejected", "text"},
	{"reason for the failure", "text"},
	{"unable to deliver your message", "text"},
	{"the original message was received at", "sendmail"},
	{"failed to deliver to", "text"},
	{"this mail is automatically generated", "text"},
	{"удостоверьтесь в правильности", "mailru"},
	{"не удалось доставить", "mailru"},
	{"konnte nicht zugestellt werden", "text"},
	{"n'a pas pu être", "text"},
	{"no se pudo entregar", "text"},
	{"无法投递", "qq"}, {"无法发送到", "qq"}, {"退信", "qq"},
}

// delayPhrases say that somebody still tries.
var delayPhrases = []string{"this is a warning message only", "you do not need to resend", "has not yet been delivered", "has not been delivered yet", "not yet been delivered", "could not be delivered yet", "will be retried",
	"will continue to", "will keep trying", "still trying", "has been delayed", "is delayed", "delivery attempts will", "transient non-fatal errors", "could not send message for past", "message will be tried", "will try to deliver", "will try again",
	"temporary problem while delivering", "delivery is delayed", "wird weiter versucht"}

// givenUp overrule delayPhrases: somebody tells that he was trying.
var givenUp = []string{"given up", "giving up", "no further delivery", "will not be retried", "failed permanently", "permanent failure", "permanent error", "this is a permanent", "has been returned", "couldn't be delivered"}

// awaySubjects begin subjects of automatic replies, in lower case.
var awaySubjects = []string{"auto:", "auto reply", "auto-reply", "autoreply", "autoresponse", "auto response", "auto-response", "automatic reply", "automatic response", "automated reply", "automated response",
	"out of office", "out of the office", "out-of-office", "ooo:", "vacation", "away from", "on vacation", "on leave", "i am out", "i'm out", "i am away",
	"abwesenheit", "automatische antwort", "abwesend", "réponse automatique", "reponse automatique", "absence du bureau", "absent du bureau",
	"respuesta automática", "respuesta automatica", "fuera de la oficina", "risposta automatica", "fuori sede", "resposta automática", "resposta automatica", "ausência temporária",
	"automatisch antwoord", "afwezig", "autosvar", "automatiskt svar", "automatisk svar", "automaattinen vastaus", "odpowiedź automatyczna", "autoodpowiedź", "automatická odpověď",
	"автоответ", "автоматический ответ", "自动回复", "自動回覆", "자동 회신", "부재중", "otomatik yanıt", "αυτόματη απάντηση", "trả lời tự động", "automatikus válasz", "răspuns automat"}

// awayAnywhere say the same wherever they stand in a subject.
var awayAnywhere = []string{"out of office", "out of the office", "auto-reply", "autoreply", "[auto reply]", "(auto reply)", "automatic reply:", "auto response", "auto_reply", "自动回复", "автоответ"}

// challengeSubjects are of systems that ask strangers to prove themselves.
var challengeSubjects = []string{"please confirm your message", "please confirm your e-mail", "confirm your email to", "your message awaits", "message awaiting verification", "awaiting your confirmation", "sender verification", "verify your email to", "verification required for your",
	"confirmation of your message", "challenge from", "spamarrest", "boxbe", "please verify yourself", "your email requires verification", "requires your confirmation", "action required: confirm you"}
