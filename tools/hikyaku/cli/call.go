package cli

import (
	"io"
	"os"
	"os/user"
	"strings"

	"golang.org/x/term"

	"hikyaku/controlplane/client"
	nodeclient "hikyaku/node/api/client"
)

// DefaultAPI is where "hikyaku serve" listens unless told otherwise.
const DefaultAPI = "http://127.0.0.1:8080"

// The groups of the command list in the help.
const (
	GroupRun     = "run"
	GroupMail    = "mail"
	GroupPolicy  = "policy"
	GroupCluster = "cluster"
	GroupTools   = "tools"
)

// Call is what every command is given: where to ask, how to print.
type Call struct {
	API    string
	Token  string
	CAFile string
	JSON   bool
	Nodes  []string // that a question about mail is narrowed to
	Color  bool     // stdout is a terminal and NO_COLOR is not set

	In       io.Reader
	Out, Err io.Writer
}

// Client is the way to the admin API.
func (c *Call) Client() (*client.Client, error) {
	api := c.API
	if !strings.Contains(api, "://") {
		api = "http://" + api
	}
	return client.New(api, client.Options{Token: c.Token, CAFile: c.CAFile})
}

// IsTerminal reports whether somebody sees what is written.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Policy is the way to the policy half of the admin API.
func (c *Call) Policy() (*client.Policy, error) {
	cl, err := c.Client()
	if err != nil {
		return nil, err
	}
	return cl.Policy(Whoami()), nil
}

// Whoami is who the history names: user@host.
func Whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// Node is the way to the node's half of the admin API.
func (c *Call) Node() (*nodeclient.Client, error) {
	cl, err := c.Client()
	if err != nil {
		return nil, err
	}
	return nodeclient.New(cl), nil
}

// Control is the way to a control plane, for what only that has.
func (c *Call) Control() (*client.Cluster, error) {
	cl, err := c.Client()
	if err != nil {
		return nil, err
	}
	return cl.Cluster(Whoami()), nil
}

// NoControl explains the 404 of a server that is no control plane.
func (c *Call) NoControl(err error) error {
	if NotFound(err) && strings.Contains(err.Error(), "nothing at this path") {
		return Hint(err, "the server at %s is a node and no control plane; give --api the address of one", c.API)
	}
	return err
}
