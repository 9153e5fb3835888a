package reputation

import "hikyaku/spool/message"

// Beside is what the verdict on a refused connection means when, as r came, other
// connections from the same source to the same hosts were carrying mail. Who says
// "too fast", or "not now", at the door, and goes on taking mail inside, means that
// there are too many connections: slowing down would not help, and one less does.
// Many carriers have but one text for both limits (Yahoo's TSS04, the Nemesis hosts,
// RFC 5321's bare 421).
func (v Verdict) Beside(r *message.Reply) Verdict {
	switch {
	case r.Phase > message.PhaseEHLO || v.Final:
		return v
	case v.Category == Rate, v.Category == TheirFault:
		v.Category, v.About, v.Action = Connections, AboutSource, ActOne
	}
	return v
}
