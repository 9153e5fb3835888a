package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/bench/report"
	"hikyaku/bench/scenario"
	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/cli"
)

func newBenchCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure: load, simulated carriers, ledger, reports",
		GroupID: cli.GroupTools,
		Long: `Runs load against nodes that are started for it on loopback, with receivers that
behave like carriers, and accounts for every message. Each run ends with a
balanced ledger, a JSON file and a page with plots, or with exit code 1.`,
	}
	cmd.AddCommand(newBenchListCmd(c), newBenchRunCmd(c), newBenchCompareCmd(c), newBenchPeersCmd(c), newBenchPlanCmd(c), newBenchFarmCmd(c), newBenchSimulateCmd(c))
	return cmd
}

// listedScenario is a line of "bench list".
type listedScenario struct {
	Name     string          `json:"name"`
	Question string          `json:"question"`
	Short    scenario.Params `json:"short"`
	Long     scenario.Params `json:"long"`
}

func newBenchListCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the scenarios", Args: cli.WantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			all := []listedScenario{}
			var rows [][]string
			for _, s := range scenario.All() {
				all = append(all, listedScenario{s.Name, s.Question, s.With(scenario.Params{}), s.With(scenario.Params{Long: true})})
				rows = append(rows, []string{s.Name, s.Question})
			}
			return c.Print(all, func(w io.Writer) error { return c.Table(w, []string{"NAME", "WHAT IT ANSWERS"}, rows) })
		},
	}
}

// benchRun holds the flags of "bench run".
type benchRun struct {
	p              scenario.Params
	file, out, dir string
	profile        bool
}

func newBenchRunCmd(c *cli.Call) *cobra.Command {
	b := &benchRun{}
	cmd := &cobra.Command{
		Use:   "run [NAME]",
		Short: "Run a scenario and write its report",
		Long: `Runs a scenario: starts nodes of this binary on loopback with data of their own,
receivers and load, waits until every message is accounted for, and writes
report.json and report.html. A run whose ledger does not balance ends with exit
code 1, whatever its speed. "bench list" names the scenarios; each is short by
default, --long takes the counts and times that the published figures use.`,
		Example: `  hikyaku bench run capacity
  hikyaku bench run bulk --long -o results/bulk
  hikyaku bench run carriers --duration 10m --restarts 6
  hikyaku bench run -f scenario.yaml`,
		Args: cli.WantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return b.run(cmd, c, args) },
	}
	b.flags(cmd)
	return cmd
}

func (b *benchRun) flags(cmd *cobra.Command) {
	f, p := cmd.Flags(), &b.p
	f.StringVarP(&b.file, "file", "f", "", "scenario `file` (YAML); flags win over it")
	f.StringVarP(&b.out, "out", "o", "", "`directory` of the report (default bench-results/NAME-TIME)")
	f.StringVar(&b.dir, "dir", "", "where nodes keep their data: choose the disk to be judged (default the system's for temporary files)")
	f.BoolVar(&b.profile, "profile", false, "take a CPU profile of the first node in each trial, into the report's directory")
	f.BoolVar(&p.Long, "long", false, "take the long form")
	f.Uint64Var(&p.Seed, "seed", 0, "seed of sizes, destinations, contents and carriers (default 1)")
	f.IntVar(&p.Messages, "messages", 0, "bound of each trial in messages")
	f.Float64Var(&p.Rate, "rate", 0, "messages per second; 0 is the scenario's own")
	f.IntVar(&p.Size, "size", 0, "bytes of a message")
	f.IntVar(&p.Connections, "connections", 0, "connections of each source")
	f.StringVar(&p.Protocol, "protocol", "", "smtp, http, http-batch or http-template")
	f.StringVar(&p.Pipelining, "pipelining", "", "plain, pipelining or chunking")
	f.IntVar(&p.PerConnection, "per-connection", 0, "messages of each SMTP connection; 0 is all")
	f.BoolVar(&p.TLS, "tls", false, "encrypt the way in by SMTP")
	f.StringVar(&p.DKIM, "dkim", "", "none, ed25519 or rsa2048")
	f.StringVar(&p.Destinations, "destinations", "", "few, zipf, giant or each")
	f.IntVar(&p.Domains, "domains", 0, "number of recipient domains")
	f.IntVar(&p.Backlog, "backlog", 0, "deliveries queued before the clock starts")
	f.StringSliceVar(&p.Carriers, "carriers", nil, "simulated carriers, by profile")
	f.StringSliceVar(&p.Profiles, "profiles", nil, "profile `files` of simulated carriers of your own")
	f.IntVar(&p.Restarts, "restarts", 0, "restarts of the node during a trial")
	f.BoolVar(&p.Kill, "kill", false, "restart with SIGKILL instead of SIGTERM")
	f.IntVar(&p.Nodes, "nodes", 0, "node processes")
	f.IntVar(&p.Rounds, "rounds", 0, "repeat the trials; figures are medians")
	f.StringVar(&p.Fault, "fault", "", "break the receiver to see the ledger catch it: drop, double or alter")
	cli.DurationFlag(cmd, &p.Duration, "duration", 0, "bound of each trial's sending in `time`")
	cli.DurationFlag(cmd, &p.Settle, "settle", 0, "`time` to wait for the queue to empty (default 1m)")
	cli.DurationFlag(cmd, &p.Latency, "latency", 0, "bound of p99 in capacity (default 1s)")
}

// params joins file, flags and argument.
func (b *benchRun) params(args []string) (scenario.Scenario, scenario.Params, error) {
	p := b.p
	if b.file != "" {
		fromFile, err := scenario.Load(b.file)
		if err != nil {
			return scenario.Scenario{}, p, err
		}
		p = scenario.Over(*fromFile, b.p)
	}
	if len(args) == 1 {
		p.Scenario = args[0]
	}
	if p.Scenario == "" {
		return scenario.Scenario{}, p, cli.UsageError("name a scenario or give -f FILE; \"hikyaku bench list\" names them")
	}
	s, ok := scenario.Find(p.Scenario)
	if !ok {
		return s, p, cli.UsageError("no scenario %q; \"hikyaku bench list\" names them", p.Scenario)
	}
	if err := s.Check(p); err != nil {
		return s, p, cli.UsageError("%v", err)
	}
	return s, p, nil
}

func (b *benchRun) run(cmd *cobra.Command, c *cli.Call, args []string) error {
	s, p, err := b.params(args)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	out := b.out
	if out == "" {
		out = filepath.Join("bench-results", s.Name+"-"+time.Now().Format("20060102-150405"))
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	env := scenario.Env{Binary: exe, Dir: b.dir, Out: c.Err, Terminal: cli.IsTerminal(c.Err), Version: build.Name()}
	if b.profile {
		env.Profiles = out
	}
	rep, runErr := s.Do(cmd.Context(), env, p)
	if rep == nil {
		return runErr
	}
	jsonPath, htmlPath, err := rep.Write(out)
	if err = errors.Join(runErr, err); err != nil && jsonPath == "" {
		return err
	}
	printErr := c.Print(rep, func(w io.Writer) error {
		if err := rep.Print(w); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\nreport  %s\npage    %s\n", jsonPath, htmlPath)
		return err
	})
	return errors.Join(err, printErr)
}

func newBenchCompareCmd(c *cli.Call) *cobra.Command {
	var force bool
	var page string
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Put two reports side by side",
		Long: `Compares two report files of one scenario: figures with ratios, percentiles,
processes. It refuses reports of unlike machines or modes and says what differs;
--force compares all the same and says so in its output.`,
		Example: "  hikyaku bench compare before/report.json after/report.json",
		Args:    cli.WantArgs(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := report.Read(args[0])
			if err != nil {
				return err
			}
			b, err := report.Read(args[1])
			if err != nil {
				return err
			}
			cmp, err := report.Compare(a, b)
			if err != nil && !force {
				return cli.Hint(err, "--force compares them all the same, and says so")
			}
			if err != nil {
				cmp = report.CompareAnyway(a, b)
			}
			if page != "" {
				html, err := cmp.Page()
				if err != nil {
					return err
				}
				if err := os.WriteFile(page, html, 0o644); err != nil {
					return err
				}
			}
			return c.Print(cmp, cmp.Print)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "compare unlike machines or modes")
	cmd.Flags().StringVar(&page, "html", "", "also write a page to this `file`")
	return cmd
}
