// Command bench measures what the poller costs, beside a bare gRPC loop that does the same work. The poller, as it is shipped,
// and the loop are processes of their own; the simulated checkers and core live in this one.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o comparison
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "What the poller costs beside a bare gRPC loop",
		Long: "For each size, rounds of: the poller with its reports in memory, the poller with its spool on disk, and a bare gRPC\n" +
			"loop that starts agents in the same slots, at the same time if there are file descriptors enough; then, alone, a loop\n" +
			"that starts them all at once, 64 at a time; and, from 10,000 agents on, the poller beside one with\n" +
			"a tenth of them. Every check must be asked once in each cycle, and every status be at core once, or that is an error.\n" +
			"Medians of the rounds are printed, and medians of the rounds' ratios, beside the budgets.",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.sizes, "sizes", []string{"100x5", "1000x5", "2000x5", "5000x5", "10000x5"}, "what to measure: agents x checks of each")
	flags.IntVar(&o.rounds, "rounds", 5, "how many rounds of each size")
	flags.IntVar(&o.cycles, "cycles", 0, "how many cycles to measure, after a first one; 0: two, and up to five with few agents, for a short run says little")
	flags.DurationVar(&o.interval, "interval", 10*time.Second, "how long a cycle is")
	flags.BoolVar(&o.json, "json", false, "print everything measured as JSON")
	flags.BoolVar(&o.judge, "judge", false, "fail if a budget is not kept")
	cmd.AddCommand(steadyCommand(), idleCommand(), profileCommand(), loopCommand())
	return cmd
}

func steadyCommand() *cobra.Command {
	var s steady
	cmd := &cobra.Command{
		Use:   "steady",
		Short: "Whether the poller's memory, goroutines and descriptors grow, and whether each status is at core once",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.size, "size", "10000x5", "agents x checks of each")
	flags.DurationVar(&s.interval, "interval", 10*time.Second, "how long a cycle is")
	flags.DurationVar(&s.length, "for", 5*time.Minute, "how long it runs")
	flags.DurationVar(&s.every, "every", time.Minute, "how often to look")
	return cmd
}

func idleCommand() *cobra.Command {
	var i idle
	cmd := &cobra.Command{
		Use:   "idle",
		Short: "What agents with long intervals take between their cycles, beside as many that stay connected",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return i.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&i.size, "size", "5000x1", "agents x checks of each")
	flags.DurationVar(&i.interval, "interval", 5*time.Minute, "how long a cycle is")
	flags.IntVar(&i.cycles, "cycles", 2, "how many cycles")
	return cmd
}

func profileCommand() *cobra.Command {
	var p profile
	cmd := &cobra.Command{
		Use:   "profile FILE",
		Short: "Write a profile of the poller at work to FILE, for go tool pprof",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.run(cmd.Context(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.size, "size", "2000x5", "agents x checks of each")
	flags.DurationVar(&p.interval, "interval", 10*time.Second, "how long a cycle is")
	flags.DurationVar(&p.length, "for", time.Minute, "how long it runs, after a first cycle")
	flags.StringVar(&p.kind, "kind", "profile", "what to profile: profile (the CPU's time), heap, allocs or goroutine")
	flags.StringVar(&p.subject, "of", onDisk.name, "what to profile: a subject of the comparison")
	return cmd
}

// loopCommand is what this program starts itself as for the bare loop.
func loopCommand() *cobra.Command {
	var file, admin string
	var atOnce int
	cmd := &cobra.Command{
		Use: "loop", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return errors.New("no configuration: give the path of its file with -c FILE")
			}
			return runLoop(cmd.Context(), file, admin, atOnce)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the poller's configuration")
	cmd.Flags().StringVar(&admin, "admin", "", "where to serve profiles")
	cmd.Flags().IntVar(&atOnce, "at-once", 0, "start all agents at once, so many at a time, instead of in slots")
	return cmd
}
