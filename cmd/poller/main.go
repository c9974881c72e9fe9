// Command poller polls external checkers over gRPC and reports to core.
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

	"github.com/serviceradar/poller/config"
)

func main() {
	if err := command().Execute(); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "poller:", err)
		}
		os.Exit(1)
	}
}

// errReported is an error that has been printed already.
var errReported = errors.New("see above")

// sameSignal is how soon after the first signal another one still is the same: timeout(1) and some
// supervisors send it to the process, and then to its group, which it is in, too.
const sameSignal = 250 * time.Millisecond

// interruptible returns a context that ends with the first SIGTERM or SIGINT; the second one ends
// the process at once.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		first := time.Now()
		cancel()
		for range signals {
			if time.Since(first) > sameSignal {
				break
			}
		}
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
	root.AddCommand(runCommand(), validateCommand(), onceCommand(), convertCommand(), diffCommand(), spoolCommand(),
		clusterCommand(), moveCommand(), drainCommand(), reloadCommand(), versionCommand())
	return root
}

// configFlags adds the flags that say where the configuration comes from, and returns a function
// that loads it. Errors are printed to stderr, each on a line of its own, and so are the warnings that
// come with them; warnings of a configuration that is right are the caller's to tell.
func configFlags(cmd *cobra.Command) func() (config.Loaded, error) {
	file := cmd.Flags().StringP("config", "c", "", "configuration file (TOML)")
	config.AddFlags(cmd.Flags())
	return func() (config.Loaded, error) {
		if *file == "" {
			return config.Loaded{}, errors.New("no configuration: give the path of its file with -c FILE")
		}
		return loadConfig(cmd)
	}
}

// configSource is where a command's configuration comes from.
func configSource(cmd *cobra.Command) config.Source {
	return config.Source{File: cmd.Flag("config").Value.String(), Environ: os.Environ(), Flags: cmd.Flags()}
}

func loadConfig(cmd *cobra.Command) (config.Loaded, error) {
	loaded := config.Read(configSource(cmd))
	if loaded.Err == nil {
		return loaded, nil
	}
	printWarnings(cmd, loaded.Warnings)
	list, ok := errors.AsType[config.Errors](loaded.Err)
	if !ok {
		return config.Loaded{}, loaded.Err
	}
	for _, e := range list {
		cmd.PrintErrln(e.Error())
	}
	cmd.PrintErrf("%s in the configuration\n", count(len(list), "error"))
	return config.Loaded{}, errReported
}

// printingFlags is configFlags for commands that talk to a person: warnings are printed, too.
func printingFlags(cmd *cobra.Command) func() (*config.Config, error) {
	load := configFlags(cmd)
	return func() (*config.Config, error) {
		loaded, err := load()
		printWarnings(cmd, loaded.Warnings)
		return loaded.Config, err
	}
}

func printWarnings(cmd *cobra.Command, warnings []string) {
	for _, w := range warnings {
		cmd.PrintErrln("warning:", w)
	}
}

// count is a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// noArgs refuses arguments; the likeliest is a configuration file without -c.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%q takes no argument %q; the configuration file goes with -c: %s -c %s",
		cmd.CommandPath(), args[0], cmd.CommandPath(), args[0])
}
