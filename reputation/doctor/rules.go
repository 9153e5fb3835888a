package doctor

import "slices"

// Rule is what one receiver asks of bulk senders.
type Rule struct {
	Who    string `json:"who"`
	Rule   string `json:"rule"`
	Status Status `json:"status"` // pass, fail or unknown
	Text   string `json:"text,omitempty"`
	URL    string `json:"url"`
}

// Where the rules stand.
const (
	GmailURL     = "https://support.google.com/a/answer/81126"
	YahooURL     = "https://senders.yahooinc.com/best-practices/"
	MicrosoftURL = "https://techcommunity.microsoft.com/blog/microsoftdefenderforoffice365blog/strengthening-email-ecosystem-outlook%E2%80%99s-new-requirements-for-high%E2%80%90volume-senders/4399730"
)

// rules are those for whoever sends 5,000 messages a day or more. Checks that
// warn or hint do not break one.
var rules = []struct {
	who, rule, url string
	by             []string // checks that all must pass
	text           string   // where there is no check
}{
	{"Gmail", "SPF passes", GmailURL, []string{CheckNameSPF}, ""},
	{"Gmail", "DKIM signs, with 1024 bits or more", GmailURL, []string{CheckNameDKIM}, ""},
	{"Gmail", "DMARC record, at least p=none", GmailURL, []string{CheckNameDMARC}, ""},
	{"Gmail", "From is aligned with SPF or DKIM", GmailURL, []string{CheckNameAlignment}, ""},
	{"Gmail", "forward and reverse names of the addresses", GmailURL, []string{CheckNamePTR}, ""},
	{"Gmail", "TLS", GmailURL, []string{CheckNameTLS}, ""},
	{"Gmail", "message format of RFC 5322", GmailURL, []string{CheckNameFormat}, ""},
	{"Gmail", "one-click unsubscribe in marketing mail", GmailURL, []string{CheckNameOneClick}, ""},
	{"Gmail", "spam rate below 0.3 %, aim for 0.1 %", GmailURL, nil, "Postmaster Tools shows it to the owner of the domain"},
	{"Yahoo", "SPF and DKIM", YahooURL, []string{CheckNameSPF, CheckNameDKIM}, ""},
	{"Yahoo", "DMARC passes, at least p=none", YahooURL, []string{CheckNameDMARC, CheckNameAlignment}, ""},
	{"Yahoo", "forward and reverse names of the addresses", YahooURL, []string{CheckNamePTR}, ""},
	{"Yahoo", "sender domains that resolve", YahooURL, []string{CheckNameMX}, ""},
	{"Yahoo", "List-Unsubscribe in marketing mail, one-click preferred", YahooURL, []string{CheckNameUnsub}, ""},
	{"Yahoo", "spam rate below 0.3 %", YahooURL, nil, "the complaint feedback loop tells"},
	{"Microsoft", "SPF passes", MicrosoftURL, []string{CheckNameSPF}, ""},
	{"Microsoft", "DKIM passes", MicrosoftURL, []string{CheckNameDKIM}, ""},
	{"Microsoft", "DMARC, at least p=none, aligned", MicrosoftURL, []string{CheckNameDMARC, CheckNameAlignment}, ""},
	{"Microsoft", "From and reply addresses that take mail (recommended)", MicrosoftURL, []string{CheckNameMX}, ""},
	{"Microsoft", "working unsubscribe link in bulk mail (recommended)", MicrosoftURL, nil, "look whether the message has one that is seen"},
}

// judge holds the checks against the rules.
func judge(checks []Check) []Rule {
	out := make([]Rule, 0, len(rules))
	for _, r := range rules {
		rule := Rule{Who: r.who, Rule: r.rule, URL: r.url, Status: Unknown, Text: r.text}
		for _, c := range checks {
			if !slices.Contains(r.by, c.Name) {
				continue
			}
			switch s := verdict(c.Status); {
			case s == Fail && rule.Status != Fail:
				rule.Status, rule.Text = Fail, c.Name+" "+c.About+": "+c.Text
			case s == Unknown && rule.Status != Fail && rule.Text == "":
				rule.Status, rule.Text = Unknown, c.Name+" "+c.About+": "+c.Text
			case s == Pass && rule.Text == "":
				rule.Status = Pass
			}
		}
		out = append(out, rule)
	}
	return out
}

// verdict is a check's status as a rule sees it.
func verdict(s Status) Status {
	if s == Warn || s == Hint {
		return Pass
	}
	return s
}
