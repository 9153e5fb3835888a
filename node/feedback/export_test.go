package feedback

// Held is how many rates and replays are remembered, and their bounds.
func (r *Receiver) Held() (rates, replays, maxRates, maxReplay int) {
	r.limits.mu.Lock()
	rates = len(r.limits.mu.young) + len(r.limits.mu.old)
	r.limits.mu.Unlock()
	r.replays.mu.Lock()
	replays = len(r.replays.mu.young) + len(r.replays.mu.old)
	r.replays.mu.Unlock()
	return rates, replays, 2 * maxBuckets, 2 * maxReplays
}

// Remember is what handling news leaves behind.
func (r *Receiver) Remember(id string) {
	if known, _ := r.replays.tryClaim(id, false); !known {
		r.replays.release(id, true)
	}
}
