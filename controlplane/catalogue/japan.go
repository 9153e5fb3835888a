package catalogue

import (
	"time"

	"hikyaku/controlplane/policy"
)

// japan are Japan's mobile carriers, portals and ISPs. They publish duties, hardly
// ever thresholds. The mobile carriers are named by domain, since what a recipient
// may be called, and when a job may begin, has to be known before DNS is asked.
func japan() []entry { return append(mobile(), providers()...) }

// mobile are the carriers of the addresses that came with a phone.
func mobile() []entry {
	return []entry{
		{"docomo", "NTT docomo", policy.Carrier{
			MX:        []string{".docomo.ne.jp"}, // mfsmax.docomo.ne.jp
			Domains:   []string{"docomo.ne.jp"},
			PerSource: each(3, 5),
			// The 101st recipient of a session gets 554, and those before it are lost
			// with it, so we stay well below.
			MessagesPerConnection: 20, RecipientsPerConnection: 90, RecipientsPerTransaction: 1,
			Retry:         minutes(10, 20, 30, 60, 120, 240),
			Backoff:       2 * minute, // a refused connection is the limit of sessions, or a block
			StartJitter:   9 * minute,
			OffHour:       5 * minute,
			OddLocalParts: policy.OddQuoted,
			Origin: "At most 100 recipients a session, many sessions at a time refused, mail spread over time and not at the top of the hour: docomo.ne.jp/service/docomo_mail/smtp_notice. " +
				"ahamo has no mail of its own: addresses taken there stay docomo.ne.jp (ahamo.com/column/column63). " +
				"Starting points of our own: 3 connections, 20 messages and 90 recipients a connection, 5 messages a second, start within 9 min and not within 5 min after the hour, retry after 10 min. " +
				"Local parts with odd dots were given out until 2009 and are reached quoted (senders' tests: kitaney-google.blogspot.com 2015, odashinsuke.hatenablog.com 2009).",
		}},
		{"au", "au (KDDI), UQ mobile", policy.Carrier{
			MX:        []string{".ezweb.ne.jp", ".au.com"}, // lsean.ezweb.ne.jp, lsean.biz.ezweb.ne.jp, msmx.au.com
			Domains:   []string{"ezweb.ne.jp", "*.ezweb.ne.jp", "au.com", "*.au.com", "uqmobile.jp"},
			PerSource: each(2, 3),
			// Long-held sessions are forbidden by name.
			MessagesPerConnection: 10, IdleTimeout: policy.Duration(5 * time.Second), RecipientsPerTransaction: 1,
			Retry: minutes(15, 30, 30, 60, 120, 240),
			// During a regulation the server resets connections. To knock on makes it last.
			Backoff:       10 * minute,
			StartJitter:   9 * minute,
			OffHour:       5 * minute,
			OddLocalParts: policy.OddQuoted,
			Origin: "At most 100 recipients a message; forbidden are many unknown users, very much in a short time, many and long-held sessions; regulation is a TCP reset; thresholds are not told: au.com/mobile/service/attention/specification. " +
				"UQ mobile asks for time and to keep off the top of the hour, and shuts out sources that write to many unknown users: uqwimax.jp/mobile/plan/option/mail/caution. " +
				"povo has no mail of its own. " +
				"Starting points of our own: 2 connections, 10 messages a connection, 5 s idle, 3 messages a second, rest of 10 min after resets, start within 9 min. " +
				"Local parts with odd dots were given out until 2009 and are reached quoted.",
		}},
		{"softbank", "SoftBank (MMS)", policy.Carrier{
			MX: []string{".softbank.ne.jp", ".vodafone.ne.jp"}, // mx.softbank.ne.jp, mx.k.vodafone.ne.jp
			Domains: []string{
				"softbank.ne.jp", "disney.ne.jp", "vodafone.ne.jp", "*.vodafone.ne.jp",
				"jp-d.ne.jp", "jp-h.ne.jp", "jp-t.ne.jp", "jp-c.ne.jp", "jp-k.ne.jp", "jp-r.ne.jp", "jp-n.ne.jp", "jp-s.ne.jp", "jp-q.ne.jp",
			},
			PerSource: each(3, 5), MessagesPerConnection: 20, RecipientsPerTransaction: 1,
			Retry:       minutes(10, 20, 30, 60, 120, 240),
			StartJitter: 9 * minute, OffHour: 5 * minute,
			Origin: "Clean lists, sending spread over time, many unknown users lead to a regulation of sending: softbank.jp/mobile/support/antispam/wrestle. LINEMO has no mail of its own. " +
				"Starting points of our own: 3 connections, 20 messages a connection, 5 messages a second, start within 9 min.",
		}},
		{"softbank-i", "SoftBank i.softbank.jp (iPhone)", policy.Carrier{
			MX:        []string{".mailsv.softbank.jp"}, // mx.mailsv.softbank.jp
			Domains:   []string{"i.softbank.jp"},
			PerSource: each(3, 5), MessagesPerConnection: 20, RecipientsPerTransaction: 1,
			Retry:       minutes(10, 20, 30, 60, 120, 240),
			StartJitter: 9 * minute, OffHour: 5 * minute,
			Origin: "As SoftBank, on servers of its own. Starting points of our own: 3 connections, 20 messages a connection, 5 messages a second, start within 9 min.",
		}},
		{"ymobile", "Y!mobile, Willcom, Emobile", policy.Carrier{
			MX:        []string{"ymx1.softbank.ne.jp"},
			Domains:   []string{"ymobile.ne.jp", "ymobile1.ne.jp", "y-mobile.ne.jp", "yahoo.ne.jp", "emobile.ne.jp", "emnet.ne.jp", "willcom.com", "pdx.ne.jp", "*.pdx.ne.jp"},
			PerSource: each(2, 3), MessagesPerConnection: 10, RecipientsPerTransaction: 1,
			Retry:       minutes(10, 20, 30, 60, 120, 240),
			StartJitter: 9 * minute, OffHour: 5 * minute,
			Origin: "Run on SoftBank's servers. " + start + " 2 connections, 10 messages a connection, 3 messages a second, start within 9 min.",
		}},
		{"rakuten", "Rakuten Mobile", policy.Carrier{
			Domains: []string{"rakumail.jp", "rakuten.jp"}, PerSource: each(2, 2), MessagesPerConnection: 10,
			StartJitter: 5 * minute,
			Origin:      start + " 2 connections, 10 messages a connection, 2 messages a second, start within 5 min.",
		}},
	}
}

// providers are portals, ISPs and hosters.
func providers() []entry {
	return []entry{
		{"yahoo-japan", "Yahoo! JAPAN", policy.Carrier{
			MX:        []string{".mail.yahoo.co.jp"}, // mx1, mx2, mx3, mx5; not yahoodns.net
			Domains:   []string{"yahoo.co.jp", "ybb.ne.jp"},
			PerSource: each(2, 10), MessagesPerConnection: 20,
			Retry: minutes(15, 30, 60, 120, 240),
			Origin: "Starting points. 2 connections, 20 messages a connection, 10 messages a second: " + kumo +
				". Retry: a block lasts from half a day to a day (y-ml.com).",
		}},
		{"ocn", "OCN, Plala", policy.Carrier{
			MX:        []string{".ocn.ad.jp", ".plala.or.jp"}, // mx.plala.or.jp
			Domains:   []string{"ocn.ne.jp", "*.ocn.ne.jp", "plala.or.jp", "*.plala.or.jp"},
			PerSource: each(3, 0), MessagesPerConnection: 20,
			Origin: start + " 3 connections, 20 messages a connection.",
		}},
		{"nifty", "@nifty", policy.Carrier{
			MX:        []string{"smmx.nifty.com"},
			Domains:   []string{"nifty.com", "nifty.ne.jp"},
			PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection. Dynamic addresses are refused (IP25B).",
		}},
		{"biglobe", "BIGLOBE", policy.Carrier{
			Domains: []string{"biglobe.ne.jp", "*.biglobe.ne.jp"}, PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection.",
		}},
		{"so-net", "So-net", policy.Carrier{
			Domains: []string{"so-net.ne.jp", "*.so-net.ne.jp"}, PerSource: each(5, 0), MessagesPerConnection: 20,
			Origin: start + " 5 connections, 20 messages a connection.",
		}},
		{"jcom", "J:COM, ZAQ", policy.Carrier{
			Domains: []string{"jcom.home.ne.jp", "zaq.ne.jp", "*.zaq.ne.jp", "*.zaq.jp"}, PerSource: each(2, 2), MessagesPerConnection: 5,
			Origin: start + " 2 connections, 5 messages a connection, 2 messages a second.",
		}},
		{"au-one-net", "au one net, DION", policy.Carrier{
			MX:        []string{".auone-net.jp"}, // mx.nn.auone-net.jp
			Domains:   []string{"auone-net.jp", "*.auone-net.jp", "dion.ne.jp", "*.dion.ne.jp"},
			PerSource: each(3, 0), MessagesPerConnection: 20,
			Origin: start + " 3 connections, 20 messages a connection.",
		}},
		{"webarena", "WebARENA, NTTPC hosting", policy.Carrier{
			MX: []string{".arena.ne.jp"}, PerSource: each(10, 0), MessagesPerConnection: 20,
			Retry: minutes(10, 15, 30, 60, 120, 240),
			Origin: "At most 40 sessions at a time; too much mail is refused with 450 until about 5 min after the rate has fallen: manual.idchosting.jp/manual/premium/mail/restrict.html. " +
				"Starting points of our own: 10 connections, 20 messages a connection.",
		}},
	}
}
