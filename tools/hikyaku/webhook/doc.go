// Package webhook has the commands about webhooks: how far each is, and one
// posted for a try.
package webhook
