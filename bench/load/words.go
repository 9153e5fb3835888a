package load

import "hikyaku/bench/load/mix"

// The words of the mix that a caller of this package needs, so that it has one
// import: package mix says what they mean.
type (
	Mix          = mix.Mix
	Message      = mix.Message
	Share        = mix.Share
	Kind         = mix.Kind
	Count        = mix.Count
	Tenant       = mix.Tenant
	Stream       = mix.Stream
	Destinations = mix.Destinations
	Domain       = mix.Domain
	Spreading    = mix.Spreading
	Template     = mix.Template
)

// The kinds of content and the spreadings over destinations.
const (
	Plain     = mix.Plain
	Multipart = mix.Multipart
	Few       = mix.Few
	Zipf      = mix.Zipf
	Giant     = mix.Giant
	Each      = mix.Each
	Named     = mix.Named
)
