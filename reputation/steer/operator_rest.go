package steer

import (
	"fmt"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Rest keeps a source from a carrier until a time, at most policy.MaxRest ahead;
// after it comes the trial, as after any rest. Site is one of the default carrier.
func (c *Controller) Rest(now time.Time, carrier, site, source string, until time.Time, by string) error {
	t := c.forward(now)
	span := until.Sub(t.time())
	switch {
	case c.set.Carriers[carrier] == nil:
		return fmt.Errorf("rest source %s: there is no carrier %s", source, carrier)
	case c.set.Sources[source] == nil:
		return fmt.Errorf("rest source %s: there is no such source", source)
	case carrier != policy.DefaultName && site != "":
		return fmt.Errorf("rest source %s: only the default carrier has sites", source)
	case span <= 0 || span > policy.MaxRest:
		return fmt.Errorf("rest source %s: until %s is not within the next %s; what shall last longer is retired", source, until.UTC().Format(time.RFC3339), policy.MaxRest)
	}
	e := c.lanes.get(laneKey{carrier, site, source}, c.ticks)
	if e == nil {
		return fmt.Errorf("rest source %s: no room for more sources at carriers", source)
	}
	c.welcome(e)
	if !c.hasRoom(e) {
		return fmt.Errorf("rest source %s: carrier %s has %d sources that are steered, and no room for more", source, carrier, keyspace.MaxSteered)
	}
	c.pause(e, t, resting, span, keyspace.Decision{Action: "rest", Rule: "operator", Why: "by " + by})
	return nil
}
