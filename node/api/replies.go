package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// StrangeReply is a group of replies that no rule knows: they differ in nothing
// but names and numbers.
type StrangeReply struct {
	Carrier  string    `json:"carrier"`
	Phase    string    `json:"phase" doc:"the step in which it was said"`
	Code     uint16    `json:"code"`
	Enhanced string    `json:"enhanced,omitempty"`
	Text     string    `json:"text" doc:"without what differs from message to message"`
	N        int64     `json:"n" doc:"how often since the node started"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// Replies is what the node makes of replies.
type Replies interface {
	// Unclassified are the groups of replies that no rule knows, the most frequent
	// first; there is a bound on their number.
	Unclassified() []StrangeReply
}

func (a *api) registerReplies(h huma.API) {
	type none struct{}
	route(h, a, get("list-unclassified", "/v1/replies/unclassified", "List replies that no rule knows, in groups"), func(context.Context, *none) (list[StrangeReply], error) {
		if a.replies == nil {
			return list[StrangeReply]{[]StrangeReply{}}, nil
		}
		return list[StrangeReply]{notNil(a.replies.Unclassified())}, nil
	})
}
