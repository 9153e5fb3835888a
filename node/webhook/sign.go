package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"hikyaku/controlplane/policy"
)

// Headers of a request.
const (
	HeaderSignature = "Hikyaku-Signature"
	HeaderBatch     = "Hikyaku-Batch"
	HeaderWebhook   = "Hikyaku-Webhook"
)

// signature signs the body with the time at which it is sent, so that a request
// that was recorded cannot be played again later. A retry is signed anew. A
// former secret signs as well, so that the receiver can change its own at leisure.
func signature(at time.Time, body []byte, secrets ...policy.Secret) string {
	t := strconv.FormatInt(at.Unix(), 10)
	out := "t=" + t
	for _, s := range secrets {
		if s.IsZero() {
			continue
		}
		mac := hmac.New(sha256.New, []byte(s.Reveal()))
		mac.Write([]byte(t))
		mac.Write([]byte{'.'})
		mac.Write(body)
		out += ",v1=" + hex.EncodeToString(mac.Sum(nil))
	}
	return out
}
