// Command demo shows the poller at work: a core, two real checkers, one that misbehaves on
// purpose, and the poller between them, all in this process and on loopback; or a cluster of pollers, which
// are processes of their own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Core, checkers and the poller on loopback, with a live table",
		Long: "Runs until Ctrl-C, or for the time given, and then sums up. The exit code is 0 if every\n" +
			"status that was made is at core exactly once.",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if length < 0 {
				return fmt.Errorf("--for %v: give a time above 0, or 0 to run until Ctrl-C", length)
			}
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			}
			return demo(ctx, os.Stdout)
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "end by itself after this time; 0 means never")
	cmd.AddCommand(clusterCommand(), nodeCommand())
	return cmd
}
