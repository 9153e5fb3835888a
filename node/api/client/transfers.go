package client

import (
	"context"
	"net/http"
	"strconv"

	"hikyaku/node/api"
)

// Transfers lists transfers to other nodes whose outcome is not known.
func (c *Client) Transfers(ctx context.Context) (*api.TransferList, error) {
	return get[api.TransferList](ctx, c.c, "/v1/transfers", nil)
}

// Reclaim takes back the deliveries of a transfer whose receiver is gone for
// good. If it is not, their recipients get them twice.
func (c *Client) Reclaim(ctx context.Context, number uint64, r *api.ReclaimRequest) (*api.Reclaimed, error) {
	var out api.Reclaimed
	if err := c.c.Do(ctx, http.MethodPost, "/v1/transfers/"+strconv.FormatUint(number, 10)+"/reclaim", nil, r, &out); err != nil {
		return nil, err
	}
	return &out, nil
}
