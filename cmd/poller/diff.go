package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
)

// diffTimeout is what the running poller has to load and compare a configuration.
const diffTimeout = time.Minute

func diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff -c NEW [--admin HOST:PORT]",
		Short: "Print what a reload of another configuration would change in the running poller",
		Long: "Prints what would change if this file, and those below its directory that it includes, were in place of the\n" +
			"running poller's, with that one's environment, flags and discovered targets. Nothing is changed. The exit code is 0,\n" +
			"or 1 if the reload would be refused, with the reasons.",
		Args: noArgs,
	}
	load := configFlags(cmd)
	admin := cmd.Flags().String("admin", "", "where the running poller's admin server listens, if not at this file's admin.listen")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := load()
		if err != nil {
			return err
		}
		address, err := adminAddress(*admin, loaded.Config.Admin.Listen)
		if err != nil {
			return err
		}
		difference, err := askDifference(cmd.Context(), address, &loaded)
		if err != nil {
			return err
		}
		return printDifference(cmd, difference)
	}
	return cmd
}

// askDifference sends a configuration to the poller that listens at address.
func askDifference(ctx context.Context, address string, loaded *config.Loaded) (*daemon.Difference, error) {
	body, err := daemon.PackConfig(loaded, os.ReadFile)
	if err != nil {
		return nil, fmt.Errorf("read the configuration again: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, diffTimeout)
	defer cancel()
	difference := new(daemon.Difference)
	return difference, askAdmin(ctx, http.MethodPost, address, daemon.DiffPath, body, difference)
}

func printDifference(cmd *cobra.Command, d *daemon.Difference) error {
	for _, w := range d.Warnings {
		cmd.PrintErrln("warning:", observe.Visible(w))
	}
	if _, err := fmt.Fprint(cmd.OutOrStdout(), d.Text); err != nil {
		return err
	}
	if len(d.Problems) == 0 {
		return nil
	}
	for _, p := range d.Problems {
		cmd.PrintErrln(observe.Visible(p))
	}
	cmd.PrintErrln("the running poller would refuse this, and change nothing")
	return errReported
}
