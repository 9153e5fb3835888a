package sidebyside

import (
	"context"
	"fmt"

	"hikyaku/bench/load"
)

// ownSeed makes every run send the same bytes.
const ownSeed = 1

// sendOwn is bench/load in the place of smtp-source: the same envelope for
// one destination, connections kept for many messages.
func sendOwn(ctx context.Context, target string, w Work, mode load.Mode) error {
	res, err := load.Run(ctx, load.Options{
		Mix: &load.Mix{Seed: ownSeed, Recipients: w.Messages, Sizes: []load.Share{{Bytes: w.Size, Weight: 1}},
			Destinations: load.Destinations{Spreading: load.Few, N: 1}},
		Protocol: load.SMTP, Addrs: []string{target}, Connections: w.Connections, Mode: mode, Messages: w.Messages,
	})
	if err != nil {
		return err
	}
	if res.Accepted != int64(w.Messages) {
		return fmt.Errorf("%d of %d messages were accepted, %d refused: %v", res.Accepted, w.Messages, res.Refused, res.Errors)
	}
	return nil
}
