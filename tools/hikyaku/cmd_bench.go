package main

import "github.com/spf13/cobra"

func newBenchCmd(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure: load, simulated carriers, comparison with other mail servers, capacity", GroupID: groupTools,
	}
	cmd.AddCommand(newBenchPeersCmd(c), newBenchPlanCmd(c))
	return cmd
}
