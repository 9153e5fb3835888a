package access

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

// AuthorHeader is where a client says who sits before it: "ann@desk". It is a
// claim and stands beside the name of the key.
const AuthorHeader = "Hikyaku-Author"

// maxAuthor bounds a claim.
const maxAuthor = 128

// Identity is whose request it is.
type Identity struct {
	// Name is that of the key; "admin token" for the token file's, "local client"
	// for one on this machine that needed neither, "peer" for another process of
	// the cluster. No key can have a name with a blank.
	Name string
	Role Role
	// Tenant is whose key it is, for the role tenant; "" for all others.
	Tenant string
	// Claimed is who the client says it is.
	Claimed string
	// Address is where the request came from, without the port.
	Address string
}

// Author is the name that history and audit keep: "key", or "key (claim)".
func (i Identity) Author() string {
	switch {
	case i.Name == "" && i.Claimed == "":
		return "unknown"
	case i.Name == "":
		return i.Claimed
	case i.Claimed == "":
		return i.Name
	}
	return fmt.Sprintf("%s (%s)", i.Name, i.Claimed)
}

// Owns reports whether the identity may see what belongs to the tenant.
func (i Identity) Owns(tenant string) bool { return i.Role != Tenant || i.Tenant == tenant }

type key struct{}

// With puts the identity into a context.
func With(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, key{}, i)
}

// From is the identity of a request that came through Guard or Peer; else the
// zero Identity, which has no role.
func From(ctx context.Context) Identity {
	i, _ := ctx.Value(key{}).(Identity)
	return i
}

// clip makes foreign text fit for a name: one line, bounded.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxAuthor {
		s = strings.ToValidUTF8(s[:maxAuthor], "")
	}
	return s
}

// The headers by which a control plane tells a node who asked. They count only
// behind Peer, which stands behind the proof that a peer asks.
const (
	asName   = "Hikyaku-As"
	asRole   = "Hikyaku-As-Role"
	asTenant = "Hikyaku-As-Tenant"
)

// Pass tells the node at the other end who asked. Guard takes these headers off
// what comes from outside.
func (i Identity) Pass(h http.Header) {
	h.Set(asName, clip(i.Name))
	h.Set(asRole, string(i.Role))
	h.Set(asTenant, i.Tenant)
	if i.Claimed != "" {
		h.Set(AuthorHeader, clip(i.Claimed))
	}
}

// passed reads what Pass wrote; without it the peer itself asks, as an admin.
func passed(r *http.Request) (Identity, bool) {
	i := Identity{Name: clip(r.Header.Get(asName)), Role: Role(r.Header.Get(asRole)), Tenant: r.Header.Get(asTenant), Claimed: clip(r.Header.Get(AuthorHeader)), Address: hostOf(r.RemoteAddr)}
	if i.Role == "" && i.Name == "" && i.Tenant == "" {
		i.Name, i.Role = "peer", Admin
		return i, true
	}
	ok := i.Role.rank() > 0 && i.Tenant == "" || i.Role == Tenant && i.Tenant != ""
	return i, ok
}
