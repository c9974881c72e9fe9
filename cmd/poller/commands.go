package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
)

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Poll and report until SIGTERM or SIGINT",
		Long: "Polls and reports until SIGTERM or SIGINT, then stops in order within shutdown_timeout:\n" +
			"what has been answered still goes to core. A second signal ends it at once.\n" +
			"When a file of the configuration or a certificate changes, and on SIGHUP, it goes on with what is new. One that\n" +
			"can't be used changes nothing; the log and /readyz say what is wrong with it.",
		Args: noArgs,
	}
	load := configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := load()
		if err != nil {
			return err
		}
		cfg := loaded.Config
		log, flush, err := observe.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
		if err != nil {
			return err
		}
		defer flush()
		loud := log.Level(min(log.GetLevel(), zerolog.WarnLevel)) // whatever else is of interest
		for _, w := range loaded.Warnings {
			loud.Warn().Str("warning", w).Msg("the configuration is right, but for this")
		}
		limitMemory(log, memlimit.FromCgroup)
		signal.Ignore(syscall.SIGPIPE) // or the end of whoever reads the log would be ours
		hangUps := make(chan os.Signal, 1)
		signal.Notify(hangUps, syscall.SIGHUP)
		defer signal.Stop(hangUps)
		running, stop := interruptible(cmd.Context())
		defer stop()
		source := configSource(cmd)
		d := daemon.New(daemon.Options{
			Config: cfg, Files: loaded.Files, Warnings: loaded.Warnings, Log: log,
			Load: func(targets map[string][]config.Target, from fs.FS) config.Loaded {
				source := source
				source.Targets, source.FS = targets, from
				return config.Read(source)
			},
		})
		if err := d.Start(running); err != nil {
			return err
		}
		for running.Err() == nil {
			select {
			case <-hangUps:
				_ = d.Reload(running) // what is wrong is in the log
			case <-d.ToEnd():
				stop()
			case <-running.Done():
			}
		}
		d.Log().Info().Stringer("shutdown_timeout", d.ShutdownTimeout()).Msg("stopping")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), d.ShutdownTimeout())
		defer cancel()
		return d.Stop(ctx)
	}
	return cmd
}

func validateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate -c FILE",
		Short: "Check the configuration: exit code 0 if it is right, 1 with all errors if not",
		Args:  noArgs,
	}
	load := printingFlags(cmd)
	effective := cmd.Flags().Bool("print", false, "print the effective configuration, with the secrets in URLs masked")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		if errs := daemon.CheckIdentities(cfg); len(errs) > 0 {
			for _, err := range errs {
				cmd.PrintErrln(err)
			}
			cmd.PrintErrln("these TLS files can't be used")
			return errReported
		}
		if *effective {
			return cfg.Print(cmd.OutOrStdout())
		}
		agents := count(len(cfg.Agents), "agent")
		if n := len(cfg.Disabled); n > 0 {
			agents += fmt.Sprintf(", %d disabled", n)
		}
		if n := len(cfg.Discovery); n > 0 {
			agents += fmt.Sprintf(", more from %s, not looked at", count(n, "source"))
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "the configuration is right: %s\n", agents)
		return err
	}
	return cmd
}

func onceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "once -c FILE [--agent A] [--check C]",
		Short: "Run the checks once and print what they come to, without core",
		Long: "Runs the checks once and prints what they come to, without core; for a single check also the\n" +
			"raw answer and what core would get. The exit code is 0 if all are available, 1 if not.",
		Args: noArgs,
	}
	load := printingFlags(cmd)
	var sel daemon.Selection
	cmd.Flags().StringVar(&sel.Agent, "agent", "", "only this agent")
	cmd.Flags().StringVar(&sel.Check, "check", "", "only checks of this name")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		outcomes, err := daemon.Once(ctx, cfg, sel, nil)
		if err != nil {
			return err
		}
		if err := daemon.PrintOutcomes(cmd.OutOrStdout(), cfg, outcomes); err != nil {
			return err
		}
		for _, o := range outcomes {
			if !o.Status.Available {
				return errReported
			}
		}
		return nil
	}
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
}

// version is what the Go toolchain wrote into the binary.
func version() string {
	version, revision := observe.Build()
	words := []string{"poller", version, revision, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}
