package keys

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/peer"
)

func newSecretAuthorityCmd(c *cli.Call) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "authority [NAME]", Short: "Make an authority that signs the certificates of a cluster", Args: cli.WantArgs(0, 1),
		Long: `Makes a key and a certificate that sign those of the machines of a cluster, for
operators without an authority of their own. Copy ca.pem to every machine as
cluster.ca_file; keep ca-key.pem where nobody else comes.`,
		RunE: func(_ *cobra.Command, args []string) error {
			name := "hikyaku cluster"
			if len(args) > 0 {
				name = args[0]
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			if err := peer.MakeAuthority(dir, name); err != nil {
				return err
			}
			return wrote(c, filepath.Join(dir, peer.AuthorityCert), filepath.Join(dir, peer.AuthorityKey))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "pki", "where its files go")
	return cmd
}

func newSecretCertificateCmd(c *cli.Call) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "certificate NAME HOST...", Short: "Make a machine's certificate, signed by the authority", Args: cli.WantArgs(2, 100),
		Long: `Makes NAME.pem and NAME-key.pem for one machine, for cluster.cert_file and
cluster.key_file, and for etcd. Each HOST is a name or an address that the machine
advertises. It is good for 825 days; made again under the same name, it is read
by a running process within ten seconds.`,
		Example: `  hikyaku secret certificate --dir pki a 10.0.0.1 a.mail.example.net`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := peer.MakeCertificate(dir, args[0], args[1:]); err != nil {
				return err
			}
			return wrote(c, filepath.Join(dir, args[0]+".pem"), filepath.Join(dir, args[0]+"-key.pem"))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "pki", "where the authority is and the files go")
	return cmd
}

// wrote says which files there are now.
func wrote(c *cli.Call, cert, key string) error {
	return c.Print(map[string]string{"cert_file": cert, "key_file": key}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\n%s\n", cert, key)
		return err
	})
}
