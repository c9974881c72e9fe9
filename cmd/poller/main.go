// Command poller polls external checkers over gRPC and reports to core.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/config"
)

func main() {
	ctx, stop := interruptible()
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "poller:", err)
		}
		os.Exit(1) //nolint:gocritic // nothing is left to defer for.
	}
}

// errReported is an error that has been printed already.
var errReported = errors.New("see above")

// interruptible returns a context that ends with the first SIGTERM or SIGINT; the second one ends
// the process at once.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "poller: second signal: leaving at once; what was not delivered is lost")
		os.Exit(1)
	}()
	return ctx, cancel
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "poller",
		Short:         "A supervised service poller: asks checkers over gRPC, reports to core",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(runCommand(), validateCommand(), onceCommand(), versionCommand())
	return root
}

// configFlags adds the flags that say where the configuration comes from, and returns a function
// that loads it. Errors and warnings are printed to stderr, each on a line of its own.
func configFlags(cmd *cobra.Command) func() (*config.Config, error) {
	file := cmd.Flags().StringP("config", "c", "", "configuration file (TOML)")
	config.AddFlags(cmd.Flags())
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was defined just now
	}
	return func() (*config.Config, error) {
		cfg, warnings, err := config.Load(config.Source{File: *file, Environ: os.Environ(), Flags: cmd.Flags()})
		for _, w := range warnings {
			cmd.PrintErrln("warning:", w)
		}
		list, ok := errors.AsType[config.Errors](err)
		if !ok {
			return cfg, err
		}
		for _, e := range list {
			cmd.PrintErrln(e.Error())
		}
		cmd.PrintErrf("%d errors in the configuration\n", len(list))
		return nil, errReported
	}
}
