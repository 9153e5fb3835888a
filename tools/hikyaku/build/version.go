package build

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"hikyaku/node/dkim"
	"hikyaku/tools/hikyaku/cli"
)

// version and commit are set by the linker (Makefile). A binary built by "go
// install" has neither and says what the Go tool wrote into it.
var (
	version = "dev"
	commit  = ""
)

// Info is what can be told about this binary.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"commit_time,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	// RSA is what would make RSA signatures here: as it depends on the machine,
	// only the version command fills it.
	RSA *dkim.RSA `json:"rsa,omitempty"`
}

// This reads what the Go tool wrote into the binary.
func This() Info {
	b := Info{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			if b.Commit == "" {
				b.Commit = s.Value
			}
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

// Name is the version and the commit, as reports name a build.
func Name() string { return version + " " + commit }

func newVersionCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, commit and Go release of this binary, and what makes RSA signatures",
		GroupID: cli.GroupTools,
		Args:    cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			b, rsa := This(), dkim.SystemRSA()
			b.RSA = &rsa
			return c.Print(b, func(w io.Writer) error {
				commit := b.Commit
				if commit == "" {
					commit = "unknown"
				}
				if b.Dirty {
					commit += " (with changes)"
				}
				_, err := fmt.Fprintf(w, "hikyaku %s\ncommit  %s\ngo      %s %s/%s\nrsa     %s\n", b.Version, commit, b.Go, b.OS, b.Arch, b.RSA)
				return err
			})
		},
	}
}
