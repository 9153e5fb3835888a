package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// Headers of a request.
const (
	HeaderSignature = "Hikyaku-Signature"
	HeaderBatch     = "Hikyaku-Batch"
	HeaderWebhook   = "Hikyaku-Webhook"
)

// signature signs the body with the time at which it is sent, so that a request
// that was recorded cannot be played again later. A retry is signed anew.
func signature(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
