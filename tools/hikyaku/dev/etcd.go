package dev

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/store/embedded"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/config"
)

func newDevEtcdCmd(c *cli.Call) *cobra.Command {
	var name, dir, listen, peer string
	var members []string
	cmd := &cobra.Command{
		Use: "etcd", Short: "Run one etcd member on loopback, for tests and for trying a cluster out", Args: cli.WantArgs(0, 0),
		Long: `Runs the etcd that hikyaku has inside as a process of its own. It asks nobody who
they are, so it listens on loopback only; for real machines use etcd itself.`,
		Example: `  hikyaku dev etcd --data-dir ./etcd --listen 127.0.0.1:2379`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := map[string]string{}
			for _, m := range members {
				who, url, ok := strings.Cut(m, "=")
				if !ok {
					return cli.UsageError("--members %q: want name=http://127.0.0.1:port", m)
				}
				all[who] = url
			}
			for flag, a := range map[string]string{"listen": listen, "peer-listen": peer} {
				if a != "" && !config.IsLoopback(a) {
					return cli.UsageError("--%s %s: only loopback addresses", flag, a)
				}
			}
			o := embedded.Options{Dir: dir, Name: name, Listen: "http://" + listen, Members: all, Logger: slog.New(slog.NewTextHandler(c.Err, nil))}
			if peer != "" {
				o.Peer = "http://" + peer
			}
			s, err := embedded.Start(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Err, "etcd %s serves on %s\n", name, strings.Join(s.Endpoints(), ", "))
			<-cmd.Context().Done()
			return s.Close()
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "etcd", "of this member")
	f.StringVar(&dir, "data-dir", "./hikyaku-etcd", "its `directory`")
	f.StringVar(&listen, "listen", "127.0.0.1:2379", "client address and port")
	f.StringVar(&peer, "peer-listen", "", "address and port for other members (default: it is alone)")
	f.StringSliceVar(&members, "members", nil, "all members of a new cluster, as `name=http://127.0.0.1:port`")
	return cmd
}
