package main

import (
	"io"
	"os"
	"os/user"
	"strings"

	"golang.org/x/term"

	"hikyaku/controlplane/client"
	nodeclient "hikyaku/node/api/client"
)

// defaultAPI is where "hikyaku serve" listens unless told otherwise.
const defaultAPI = "http://127.0.0.1:8080"

// The groups of the command list in the help.
const (
	groupRun     = "run"
	groupMail    = "mail"
	groupPolicy  = "policy"
	groupCluster = "cluster"
	groupTools   = "tools"
)

// cli is what every command is given: where to ask, how to print.
type cli struct {
	api    string
	token  string
	caFile string
	json   bool
	nodes  []string // that a question about mail is narrowed to
	color  bool     // stdout is a terminal and NO_COLOR is not set

	in       io.Reader
	out, err io.Writer
}

// client is the way to the admin API.
func (c *cli) client() (*client.Client, error) {
	api := c.api
	if !strings.Contains(api, "://") {
		api = "http://" + api
	}
	return client.New(api, client.Options{Token: c.token, CAFile: c.caFile})
}

// isTerminal reports whether somebody sees what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// policy is the way to the policy half of the admin API.
func (c *cli) policy() (*client.Policy, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return cl.Policy(whoami()), nil
}

// whoami is who the history names: user@host.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// node is the way to the node's half of the admin API.
func (c *cli) node() (*nodeclient.Client, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return nodeclient.New(cl), nil
}

// control is the way to a control plane, for what only that has.
func (c *cli) control() (*client.Cluster, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return cl.Cluster(whoami()), nil
}

// noControl explains the 404 of a server that is no control plane.
func (c *cli) noControl(err error) error {
	if notFound(err) && strings.Contains(err.Error(), "nothing at this path") {
		return hint(err, "the server at %s is a node and no control plane; give --api the address of one", c.api)
	}
	return err
}
