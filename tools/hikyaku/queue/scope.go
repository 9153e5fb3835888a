package queue

import (
	"strings"

	"github.com/spf13/cobra"

	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
)

// scopeFlags adds the flags that pick deliveries.
func scopeFlags(cmd *cobra.Command, s *api.Scope) {
	f := cmd.Flags()
	f.StringVar(&s.Destination, "destination", "", "recipient domain")
	f.StringVar(&s.Tenant, "tenant", "", "tenant")
	f.StringVar(&s.Stream, "stream", "", "stream")
	f.StringVar(&s.Pool, "pool", "", "pool")
	f.StringVar(&s.Job, "job", "", "job")
	f.StringVar(&s.Carrier, "carrier", "", "carrier")
	f.StringVar(&s.Source, "source", "", "source")
}

// destinationArg takes a destination given as an argument into the scope.
func destinationArg(s *api.Scope, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if s.Destination != "" {
		return cli.UsageError("the destination is given twice: %q and --destination %q", args[0], s.Destination)
	}
	s.Destination = args[0]
	return nil
}

// scopeText names a scope for people.
func scopeText(s api.Scope) string {
	var parts []string
	for _, p := range []struct{ name, v string }{
		{"destination", s.Destination}, {"tenant", s.Tenant}, {"stream", s.Stream}, {"pool", s.Pool},
		{"job", s.Job}, {"carrier", s.Carrier}, {"source", s.Source},
	} {
		if p.v != "" {
			parts = append(parts, p.name+" "+p.v)
		}
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, ", ")
}
