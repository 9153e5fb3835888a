package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
)

const carriersPage = "docs/carriers.md"

//go:embed carriers_intro.md
var carriersIntro string

// carriers is the page about the carriers that ship: what is true of all, then
// each with its settings and their sources.
func carriers() []byte {
	var b bytes.Buffer
	b.WriteString(carriersIntro)
	b.WriteString("Connections and rate are those of each source. What is not there has its default ([configuration.md](configuration.md)).\n\n")
	b.WriteString("| carrier | known by MX | and by domain | connections | messages a connection | rate | TLS | other |\n|---|---|---|---|---|---|---|---|\n")
	view := map[string]catalogue.Carrier{}
	for _, v := range catalogue.View(nil) {
		view[v.Name] = v
	}
	for _, name := range catalogue.Names() {
		c := view[name].InForce
		rate := "–"
		if c.PerSource.Rate != nil {
			rate = c.PerSource.Rate.String()
		}
		tls := c.TLS
		if tls == "" {
			tls = "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d | %d | %s | %s | %s |\n", name, codes(c.MX), codes(c.Domains),
			c.PerSource.Connections, c.MessagesPerConnection, rate, tls, escape(otherSettings(c)))
	}
	b.WriteString("\n## Where the numbers come from\n")
	for _, name := range catalogue.Names() {
		fmt.Fprintf(&b, "\n**%s** (`%s`). %s\n", view[name].Title, name, view[name].InForce.Origin)
	}
	return b.Bytes()
}

func codes(list []string) string {
	if len(list) == 0 {
		return "–"
	}
	return "`" + strings.Join(list, "` `") + "`"
}

// otherSettings are those that most carriers do not have.
func otherSettings(c *policy.Carrier) string {
	var parts []string
	add := func(set bool, format string, args ...any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(c.RecipientsPerConnection > 0, "%d recipients a connection", c.RecipientsPerConnection)
	add(c.RecipientsPerTransaction > 0, "%s", strconv.Itoa(c.RecipientsPerTransaction)+plain(c.RecipientsPerTransaction, " recipient", " recipients")+" a message")
	add(c.IdleTimeout > 0, "idle %s", c.IdleTimeout)
	if c.Retry != nil {
		var waits []string
		for _, w := range c.Retry.Schedule {
			waits = append(waits, w.String())
		}
		text := "retry " + strings.Join(waits, ", ")
		if c.Retry.Jitter != nil {
			text += fmt.Sprintf(" ±%d %%", *c.Retry.Jitter)
		}
		parts = append(parts, text)
	}
	add(c.Backoff > 0, "backoff %s", c.Backoff)
	add(c.StartJitter > 0, "jobs start within %s", c.StartJitter)
	add(c.OffHour > 0, "off the hour by %s", c.OffHour)
	add(c.OddLocalParts != "", "odd local parts %s", c.OddLocalParts)
	if len(parts) == 0 {
		return "–"
	}
	return strings.Join(parts, "; ")
}

func plain(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}
