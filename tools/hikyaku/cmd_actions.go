package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newActionsCmd(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "actions",
		Short:   "List holds and cancels that stand, and end them",
		GroupID: groupMail,
	}
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List holds and cancels that stand",
		Args:  wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := c.node()
			if err != nil {
				return err
			}
			as, err := n.Actions(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(as, func(w io.Writer) error {
				var rows [][]string
				for _, a := range as {
					on := scopeText(a.Scope)
					if a.Message != "" {
						on = "message " + a.Message
					}
					rows = append(rows, []string{a.ID, a.Verb, on, since(&a.Created), until(a.Expires), a.Author, a.Reason})
				}
				return c.table(w, []string{"ID", "ACTION", "ON", ">AGE", ">ENDS IN", "BY", "REASON"}, rows)
			})
		},
	}
	rm := &cobra.Command{
		Use:   "rm ID",
		Short: "End a hold",
		Args:  wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := c.node()
			if err != nil {
				return err
			}
			r, err := n.DeleteAction(cmd.Context(), args[0])
			if notFound(err) {
				return hint(err, "\"hikyaku actions ls\" lists what stands")
			}
			if err != nil {
				return err
			}
			return c.print(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "ended %s of %s\n", clean(r.Verb), clean(scopeText(r.Scope)))
				return err
			})
		},
	}
	cmd.AddCommand(ls, rm)
	return cmd
}
