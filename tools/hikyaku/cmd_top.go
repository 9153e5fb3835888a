package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/spf13/cobra"

	"hikyaku/node/api"
)

func newTopCmd(c *cli) *cobra.Command {
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the node: rates, queues, what waits for what, latency, errors",
		Long: `Watch the node. Without a terminal, and with --once or --json, one look is
printed. Keys: q ends, p pauses, + and - change the interval.`,
		GroupID: groupMail,
		Args:    wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond || every > time.Hour {
				return usageError("--interval %s: want 100ms to 1h", every)
			}
			n, err := c.node()
			if err != nil {
				return err
			}
			in, isFile := c.in.(*os.File)
			if once || c.json || !isTerminal(c.out) || !isFile || !isTerminal(in) {
				o, err := n.Overview(cmd.Context())
				if err != nil {
					return err
				}
				return c.print(o, func(w io.Writer) error {
					_, err := io.WriteString(w, c.topView(&topState{now: o, width: 120}))
					return err
				})
			}
			return c.watch(cmd.Context(), n.Overview, every)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one look and end")
	cmd.Flags().DurationVar(&every, "interval", time.Second, "time between looks")
	return cmd
}

// ask gets one look at the node.
type ask func(context.Context) (*api.Overview, error)

// watch runs the live view until the user ends it.
func (c *cli) watch(ctx context.Context, look ask, every time.Duration) error {
	m := &topModel{c: c, ctx: ctx, look: look, every: every, state: topState{width: 120, height: 40}}
	_, err := tea.NewProgram(m, tea.WithAltScreen(), tea.WithContext(ctx), tea.WithInput(c.in), tea.WithOutput(c.out)).Run()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("live view: %w", err)
	}
	return nil
}

// topModel is the live view. bubbletea calls it from one goroutine.
type topModel struct {
	c      *cli
	ctx    context.Context // the program's own root, for the looks it takes
	look   ask
	every  time.Duration
	paused bool
	state  topState
}

// looked is the answer to one look; due is the time for the next.
type (
	looked struct {
		o   *api.Overview
		err error
	}
	due struct{}
)

func (m *topModel) take() tea.Msg {
	ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
	defer cancel()
	o, err := m.look(ctx)
	return looked{o, err}
}

func (m *topModel) wait() tea.Cmd {
	return tea.Tick(m.every, func(time.Time) tea.Msg { return due{} })
}

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.take }

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.state.width, m.state.height = msg.Width, msg.Height
	case looked:
		m.state.add(msg.o, msg.err)
		return m, m.wait()
	case due:
		if m.paused {
			return m, m.wait()
		}
		return m, m.take
	case tea.KeyMsg:
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return m, tea.Quit
		case "p", " ":
			m.paused = !m.paused
			m.state.paused = m.paused
		case "+":
			m.every = max(m.every/2, 250*time.Millisecond)
		case "-":
			m.every = min(m.every*2, time.Minute)
		}
	}
	return m, nil
}

// View implements tea.Model.
func (m *topModel) View() string { return m.c.topView(&m.state) }
