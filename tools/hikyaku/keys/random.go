package keys

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/keyspace"
	"hikyaku/tools/hikyaku/cli"
)

func newSecretClusterKeyCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "cluster-key",
		Short: "Make the key file of a cluster",
		Long: `Make a random cluster key, in the form of the file that cluster.key_file names.
All nodes and control planes of a cluster have the same. It seals the secrets of
policy in etcd: without it they cannot be read again, so keep a copy where the
backups of etcd are not.`,
		Example: "  (umask 077; hikyaku secret cluster-key > /etc/hikyaku/cluster.key)",
		Args:    cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, text := keyspace.NewKey()
			return c.Print(map[string]string{"cluster_key": text[:2*keyspace.KeyBytes]}, func(w io.Writer) error {
				_, err := io.WriteString(w, text)
				return err
			})
		},
	}
}

func newSecretAdminKeyCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "admin-key",
		Short: "Make a key for the admin API and its hash, for an AdminKey of policy",
		Long: `Make a key for the admin API. It is shown this once; policy holds its hash only,
in a resource of the kind AdminKey with the role that the bearer has.`,
		Args: cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			key, hash := access.NewKey()
			return c.Print(map[string]string{"key": key, "hash": hash}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "key   %s\nhash  %s\n", key, hash)
				return err
			})
		},
	}
}
