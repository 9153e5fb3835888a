package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// SigningKey is a key that the node signs with, as its owner may publish it.
type SigningKey struct {
	Name     string `json:"name" doc:"of the resource"`
	Domain   string `json:"domain"`
	Selector string `json:"selector"`
	DNSText  string `json:"dns_txt" doc:"text of the record at selector._domainkey.domain"`
}

// Listing is what one DNS blocklist says of one source.
type Listing struct {
	Source  string     `json:"source"`
	Address string     `json:"address"`
	Zone    string     `json:"zone"`
	State   string     `json:"state" enum:"waiting,clear,listed,refused,failed" doc:"refused: the list does not answer our resolver; failed: the look-up did"`
	Means   []string   `json:"means,omitempty" doc:"what the answers mean, or why there are none"`
	Reason  string     `json:"reason,omitempty" doc:"what the list says (TXT)"`
	Checked *time.Time `json:"checked,omitempty"`
	Since   *time.Time `json:"since,omitempty" doc:"of being listed"`
}

// Senders is the node's health as a sender.
type Senders interface {
	SigningKeys() []SigningKey
	// Blocklists lists what is known of the node's sources; policy says which
	// zones are asked.
	Blocklists() []Listing
}

func (a *api) registerSenders(h huma.API) {
	type none struct{}
	route(h, a, get("list-signing-keys", "/v1/signing-keys", "List the keys that sign mail, with the records to publish"), func(context.Context, *none) (list[SigningKey], error) {
		if a.senders == nil {
			return list[SigningKey]{[]SigningKey{}}, nil
		}
		return list[SigningKey]{notNil(a.senders.SigningKeys())}, nil
	})
	route(h, a, get("list-blocklists", "/v1/blocklists", "List what DNS blocklists say of the node's sources"), func(context.Context, *none) (list[Listing], error) {
		if a.senders == nil {
			return list[Listing]{[]Listing{}}, nil
		}
		return list[Listing]{notNil(a.senders.Blocklists())}, nil
	})
}
