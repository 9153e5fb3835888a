package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// GuardOptions say who may ask.
type GuardOptions struct {
	// Token is the bearer token. With one, every request but /livez and /readyz
	// must bring it. Without one, only loopback clients are let in.
	Token string
	// Hosts are names under which the API may be asked, beside localhost and
	// plain addresses. Only checked without a token.
	Hosts []string
	// MaxBody bounds request bodies. Default 1 MiB.
	MaxBody int64
}

// CheckListen refuses to open an address to the network without a token.
func CheckListen(listen, token string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("admin address %q: %w", listen, err)
	}
	if token != "" || host == "localhost" {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() {
		return nil
	}
	return errors.New("admin address " + listen + " can be reached from the network: set a token, or listen on 127.0.0.1")
}

// Guard stands before every route of the admin API.
//
// Browsers are the danger on loopback: a page anywhere can send requests to
// 127.0.0.1, and a name that resolves to it (DNS rebinding) can read the
// answers. So without a token the Host must be an address, localhost or a known
// name, and requests that change something must not come from another origin.
func Guard(next http.Handler, o GuardOptions) http.Handler {
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	want := sha256.Sum256([]byte(o.Token))
	check := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case o.Token != "":
			if !openPath(r.URL.Path) && !hasToken(r, want) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="hikyaku"`)
				problem(w, http.StatusUnauthorized, "this API needs a bearer token")
				return
			}
		case !fromLoopback(r.RemoteAddr):
			problem(w, http.StatusForbidden, "without a token this API answers loopback clients only")
			return
		case !knownHost(r.Host, o.Hosts):
			problem(w, http.StatusMisdirectedRequest, "unknown host name; ask by address, by localhost, or configure the name")
			return
		}
		if r.ContentLength > o.MaxBody {
			problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have at most %d bytes", o.MaxBody))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, o.MaxBody)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	}
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusForbidden, "requests of web pages from elsewhere are refused")
	}))
	return origin.Handler(http.HandlerFunc(check))
}

// openPath lists what needs no token: load balancers and init systems ask it,
// and it says nothing about mail.
func openPath(path string) bool { return path == "/livez" || path == "/readyz" }

// hasToken compares digests, so neither length nor content shows in the time.
func hasToken(r *http.Request, want [32]byte) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

func fromLoopback(remote string) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func knownHost(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, host) })
}

// problem writes an error as RFC 9457 says.
func problem(w http.ResponseWriter, status int, detail string) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	b, err := json.Marshal(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
	if err == nil {
		_, _ = w.Write(append(b, '\n')) // the client may be gone; there is nobody to tell
	}
}

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
