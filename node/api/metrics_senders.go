package api

// webhooks prints the webhooks of policy. Their names are bounded by what an
// operator writes.
func (p printer) webhooks(ws []Webhook) {
	states := map[string]int{}
	behind, lag := map[string]uint64{}, map[string]float64{}
	posted, taken, failed, givenUp, lost, unreadable := map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for i := range ws {
		w := &ws[i]
		states[w.State]++
		behind[w.Name], lag[w.Name] = w.Behind, w.BehindSeconds
		posted[w.Name], taken[w.Name], failed[w.Name] = w.Posted, w.Requests, w.Failures
		givenUp[w.Name], lost[w.Name], unreadable[w.Name] = w.GivenUp, w.Lost, w.Unreadable
	}
	by(p, gaugeKind, "webhooks", "Webhooks by state.", "state", states)
	by(p, gaugeKind, "webhook_behind", "Numbers of the event log that a webhook has not dealt with.", "webhook", behind)
	by(p, gaugeKind, "webhook_behind_seconds", "Age of the oldest event that waits for a webhook.", "webhook", lag)
	by(p, counterKind, "webhook_posted_events_total", "Events that an endpoint took.", "webhook", posted)
	by(p, counterKind, "webhook_requests_total", "Requests that an endpoint took.", "webhook", taken)
	by(p, counterKind, "webhook_failures_total", "Requests that an endpoint did not take.", "webhook", failed)
	by(p, counterKind, "webhook_given_up_events_total", "Events given up after their time.", "webhook", givenUp)
	by(p, counterKind, "webhook_lost_total", "Numbers of the event log that retention removed before a webhook read them.", "webhook", lost)
	by(p, counterKind, "webhook_unreadable_lines_total", "Lines of the event log that are not JSON and were left out.", "webhook", unreadable)
}

// blocklists prints what DNS blocklists say.
func (p printer) blocklists(ls []Listing) {
	states, listed := map[string]int{}, map[string]int{}
	for i := range ls {
		states[ls[i].State]++
		if ls[i].State == "listed" {
			listed[ls[i].Source]++
		}
	}
	by(p, gaugeKind, "blocklist_checks", "Pairs of source and DNS blocklist, by state.", "state", states)
	by(p, gaugeKind, "blocklist_listed", "DNS blocklists that list a source; only sources that are listed.", "source", listed)
}
