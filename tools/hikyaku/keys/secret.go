package keys

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hikyaku/node/credential"
	"hikyaku/tools/hikyaku/cli"
)

func newSecretCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "secret",
		Short:   "Make password hashes and API keys for tenants",
		GroupID: cli.GroupTools,
	}
	cmd.AddCommand(newSecretHashCmd(c), newSecretKeyCmd(c), newSecretAdminKeyCmd(c), newSecretClusterKeyCmd(c), newSecretAuthorityCmd(c), newSecretCertificateCmd(c))
	return cmd
}

func newSecretHashCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Read a password and print its hash, for a tenant's smtp_users",
		Long: `Read a password, from the terminal without showing it, else the first line of
standard input, and print its argon2id hash. Policy holds the hash only.`,
		Args: cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			password, err := readPassword(c)
			if err != nil {
				return err
			}
			hash, err := credential.Hash(password)
			if err != nil {
				return err
			}
			return c.Print(map[string]string{"password_hash": hash}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, hash)
				return err
			})
		},
	}
}

// readPassword asks twice on a terminal.
func readPassword(c *cli.Call) (string, error) {
	f, ok := c.In.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		// One byte more than can be used, so that a longer one is refused, not cut.
		line, err := bufio.NewReader(io.LimitReader(c.In, credential.MaxPassword+2)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(c.Err, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(c.Err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return string(b), nil
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", err
	}
	second, err := ask("The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

func newSecretKeyCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Make an API key and its hash, for a tenant's api_keys",
		Long: `Make an API key for the HTTP API. The key is shown this once; policy holds its
hash only.`,
		Args: cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			key, hash := credential.NewAPIKey()
			return c.Print(map[string]string{"key": key, "hash": hash}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "key   %s\nhash  %s\n", key, hash)
				return err
			})
		},
	}
}
