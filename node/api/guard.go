package api

import (
	"net/http"
	"time"

	"hikyaku/controlplane/access"
)

// GuardOptions say who may ask.
type GuardOptions = access.Options

// CheckListen refuses to open an address to the network without a token.
func CheckListen(listen, token string) error { return access.CheckListen(listen, token) }

// Guard stands before every route of the admin API.
func Guard(mux *http.ServeMux, o GuardOptions) http.Handler { return access.New(mux, o) }

// NewServer is an http.Server with the limits that the admin API needs. Streams
// move their own write deadline on.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
}
