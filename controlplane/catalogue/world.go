package catalogue

import (
	"slices"
	"time"

	"hikyaku/controlplane/policy"
)

// Where numbers come from. "start" is our own cautious choice where nothing is
// published.
const (
	kumo     = "KumoMTA's shaping.toml (KumoCorp/kumomta@3ebc1e8, assets/policy-extras and assets/community)"
	provided = "told to KumoMTA by the carrier itself (shaping.toml)"
	start    = "Starting points of our own: nothing is published."
)

func minutes(n ...int) *policy.Retry {
	r := &policy.Retry{}
	for _, m := range n {
		r.Schedule = append(r.Schedule, policy.Duration(time.Duration(m)*time.Minute))
	}
	return r
}

func perSecond(n int64) *policy.Rate { return &policy.Rate{N: n, Per: time.Second} }

// each are limits on each source: connections, and messages a second or 0.
func each(connections int, rate int64) policy.Limits {
	l := policy.Limits{Connections: connections}
	if rate > 0 {
		l.Rate = perSecond(rate)
	}
	return l
}

const minute = policy.Duration(time.Minute)

// world are the carriers outside Japan.
func world() []entry { return slices.Concat(worldwide(), america(), europe(), east()) }

func worldwide() []entry {
	return []entry{
		{"gmail", "Gmail and Google Workspace", policy.Carrier{
			// One group: the names differ, the addresses behind them are the same.
			MX:                    []string{".google.com", ".googlemail.com"},
			PerSource:             each(20, 0),
			MessagesPerConnection: 50,
			TLS:                   policy.TLSRequired,
			Origin: "Starting points. 20 connections: what senders report for addresses without a name; warm ones reach 150 and more, KumoMTA begins with 5. 50 messages a connection: " + kumo +
				". TLS: Gmail answers mail without it with 421 4.7.0 TLS required.",
		}},
		{"outlook", "Outlook.com, Hotmail, Live, MSN", policy.Carrier{
			MX:                    []string{".olc.protection.outlook.com"},
			PerSource:             each(5, 0),
			MessagesPerConnection: 50,
			Origin: "Starting points. 5 connections, 50 messages a connection: " + kumo +
				". Microsoft allows up to 500 connections of one address without arrangement (sendersupport.olc.protection.outlook.com/pm/Policies).",
		}},
		{"microsoft365", "Microsoft 365 (Exchange Online)", policy.Carrier{
			// .mx.microsoft is the same service with DANE; the others are older names.
			MX:                    []string{".mail.protection.outlook.com", ".mx.microsoft", ".mail.eo.outlook.com", ".mail.protection.outlook.de"},
			PerSource:             each(5, 0),
			MessagesPerConnection: 50,
			Origin:                "Starting points. 5 connections, 50 messages a connection: " + kumo + ". MX names: learn.microsoft.com, how-dane-secures-email.",
		}},
		{"yahoo", "Yahoo, AOL, Verizon (not Yahoo! JAPAN)", policy.Carrier{
			MX:                    []string{".yahoodns.net"},
			PerSource:             each(5, 0),
			MessagesPerConnection: 20,
			Origin: "20 messages a connection: senders.yahooinc.com/best-practices; more end with 421 Max message per connection reached. " +
				"5 connections is a starting point: senders report 5 to 10 for warm addresses, 1 to 3 for cold ones.",
		}},
		{"icloud", "iCloud, me.com, mac.com", policy.Carrier{
			MX:                    []string{".mail.icloud.com"},
			Domains:               []string{"icloud.com", "me.com", "mac.com"}, // named, so that jobs can be spread before DNS is asked
			PerSource:             each(10, 0),
			MessagesPerConnection: 5,
			StartJitter:           5 * minute,
			OffHour:               3 * minute,
			Origin: "Starting points. 10 connections, 5 messages a connection: " + kumo +
				". Jitter: bursts at the top of the hour are answered with 451 (senders' reports).",
		}},
	}
}

func america() []entry {
	return []entry{
		{"comcast", "Comcast, Xfinity", policy.Carrier{
			MX:                    []string{".comcast.net"},
			PerSource:             each(25, 0),
			MessagesPerConnection: 1000,
			IdleTimeout:           policy.Duration(30 * time.Second),
			TLS:                   policy.TLSRequired,
			Origin:                "25 connections, 1000 messages a connection, 30 s idle, TLS: " + provided + " (spa.xfinity.com/postmaster).",
		}},
		{"att", "AT&T, SBC Global, BellSouth", policy.Carrier{
			MX: []string{".prodigy.net"}, PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection.",
		}},
	}
}

func europe() []entry {
	return []entry{
		{"gmx", "GMX, WEB.DE", policy.Carrier{
			MX:                    []string{".gmx.net", ".web.de"},
			PerSource:             each(4, 0),
			MessagesPerConnection: 20,
			TLS:                   policy.TLSRequired,
			Retry:                 gmxRetry(),
			Origin: "Starting points. 4 connections, 20 messages a connection, TLS: " + kumo +
				". Retry: too many messages in a short time are refused for hours, and retries count among them (senders' reports), so the first comes after 30 min, spread wide.",
		}},
		{"mail-com", "mail.com", policy.Carrier{
			MX: []string{".mail.com"}, PerSource: each(4, 0), MessagesPerConnection: 100,
			Retry:  gmxRetry(),
			Origin: "100 messages a connection: " + provided + ". 4 connections and the retries: starting points, as for GMX, which runs it.",
		}},
		{"tonline", "T-Online", policy.Carrier{
			MX: []string{".t-online.de"}, PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection. T-Online takes mail only from addresses whose name leads to an imprint (postmaster.t-online.de).",
		}},
		{"orange", "Orange, Wanadoo", policy.Carrier{
			MX:                    []string{".orange.fr"},
			PerSource:             each(2, 0),
			MessagesPerConnection: 100,
			TLS:                   policy.TLSRequired,
			Origin:                "Starting points. 2 connections: Orange refuses more with OFR_104 Trop de connexions (postmastery.com/orange-postmaster-smtp-error-codes-ofr). 100 messages a connection, TLS: " + kumo + ".",
		}},
		{"laposte", "La Poste", policy.Carrier{
			MX: []string{".laposte.net"}, PerSource: each(2, 0), MessagesPerConnection: 50,
			Origin: start + " 2 connections, 50 messages a connection; La Poste refuses more connections with LPN_104.",
		}},
		{"sfr", "SFR", policy.Carrier{
			MX: []string{".sfr.fr"}, PerSource: each(2, 0), MessagesPerConnection: 50,
			Origin: start + " 2 connections, 50 messages a connection.",
		}},
		{"free", "Free", policy.Carrier{
			MX: []string{".free.fr"}, PerSource: each(2, 0), MessagesPerConnection: 50,
			Origin: start + " 2 connections, 50 messages a connection.",
		}},
		{"kpn", "KPN", policy.Carrier{
			MX: []string{".kpnmail.nl"}, PerSource: each(10, 0), MessagesPerConnection: 10, TLS: policy.TLSRequired,
			Origin: "Starting points. 10 connections, 10 messages a connection, TLS: " + kumo + ".",
		}},
		{"libero", "Libero, Virgilio", policy.Carrier{
			MX: []string{".libero.it", ".virgilio.it"}, PerSource: each(2, 0), MessagesPerConnection: 20,
			Origin: start + " 2 connections, 20 messages a connection.",
		}},
	}
}

// east are Russia, China and India.
func east() []entry {
	return []entry{
		{"mailru", "Mail.ru, bk.ru, list.ru, inbox.ru", policy.Carrier{
			MX: []string{".mail.ru"}, PerSource: each(10, 0), MessagesPerConnection: 50,
			Origin: "Starting points. 10 connections: senders report 10 to 20, and 50 with a good name. 50 messages a connection: our own.",
		}},
		{"yandex", "Yandex", policy.Carrier{
			MX: []string{".yandex.ru", ".yandex.net"}, PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection.",
		}},
		{"rambler", "Rambler", policy.Carrier{
			MX: []string{".rambler.ru"}, PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection.",
		}},
		{"qq", "QQ Mail, Tencent Exmail, Foxmail", policy.Carrier{
			MX:                    []string{".qq.com"},
			PerSource:             each(4, 0),
			MessagesPerConnection: 8,
			TLS:                   policy.TLSRequired,
			Retry:                 minutes(15, 60, 60, 120, 240),
			Origin: "Starting points. 4 connections, 8 messages a connection, TLS: " + kumo +
				". Retry: QQ counts by address, domain, sender and connection (service.mail.qq.com/detail/122) and is left alone for an hour then.",
		}},
		{"netease", "NetEase: 163, 126, yeah.net", policy.Carrier{
			MX:                    []string{".netease.com"},
			PerSource:             each(4, 0),
			MessagesPerConnection: 7,
			TLS:                   policy.TLSRequired, // any certificate: theirs does not verify
			Origin:                "Starting points. 4 connections, 7 messages a connection, TLS with any certificate: " + kumo + ".",
		}},
		{"netvigator", "Netvigator (Hong Kong)", policy.Carrier{
			MX: []string{".netvigator.com"}, PerSource: each(5, 0), MessagesPerConnection: 10, TLS: policy.TLSRequired,
			Origin: "Starting points. 5 connections, 10 messages a connection, TLS: " + kumo + ". More end with Too many messages for this session.",
		}},
		{"zoho", "Zoho Mail", policy.Carrier{
			MX: []string{
				".zoho.com", ".zoho.eu", ".zoho.in", ".zoho.jp", ".zoho.sa", ".zoho.uk", ".zoho.com.au", ".zoho.com.cn", ".zohocloud.ca", ".zohomail.com",
			},
			PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection. MX names: zoho.com/mail/help/adminconsole/configure-email-delivery.html.",
		}},
	}
}

// gmxRetry waits at least half an hour between attempts, as GMX counts them.
func gmxRetry() *policy.Retry {
	r, jitter := minutes(30, 60, 120, 240), 30
	r.Jitter = &jitter
	return r
}

// gateways are filters before other people's mailboxes.
func gateways() []entry {
	return []entry{
		{"proofpoint", "Proofpoint", policy.Carrier{
			MX: []string{".pphosted.com", ".ppe-hosted.com", ".gpphosted.com"}, PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection, over all its customers.",
		}},
		{"mimecast", "Mimecast", policy.Carrier{
			MX: []string{".mimecast.com", ".mimecast.co.za", ".mimecast-offshore.com"}, PerSource: each(10, 0), MessagesPerConnection: 100,
			Origin: "10 connections, 100 messages a connection: " + provided + ", for each of its regions; here for all of them together.",
		}},
		{"barracuda", "Barracuda Email Gateway Defense", policy.Carrier{
			MX: []string{".barracudanetworks.com"}, PerSource: each(10, 0), MessagesPerConnection: 15, TLS: policy.TLSRequired,
			Origin: "Starting points. 10 connections, 15 messages a connection, TLS: " + kumo + ".",
		}},
	}
}
