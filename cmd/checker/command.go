package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/serviceradar/poller/internal/checkerfile"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/probe"
	"github.com/serviceradar/poller/sdk"
)

func command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "checker",
		Short:         "Serve the built-in checks to pollers, try one, and test checkers",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.AddCommand(serveCommand(), checkCommand(), testCommand())
	return cmd
}

func serveCommand() *cobra.Command {
	file := checkerfile.Default()
	cmd := &cobra.Command{
		Use:   "serve [-c FILE]",
		Short: "Serve the built-in checks until SIGTERM or SIGINT",
		Long: "Serves the checks until SIGTERM or SIGINT; then checks under way may finish for the time of\n" +
			"--stop-timeout. A second signal ends it at once.\n\n" + kinds() + "\n" +
			"Anybody who can reach the address may have targets looked at from this machine: where it is not\n" +
			"loopback, give a certificate, its key, and the authorities of the pollers' certificates.",
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	name := fileFlag(cmd)
	f.StringVar(&file.Listen, "listen", file.Listen, "address to listen on")
	f.StringVar(&file.TLS.CertFile, "tls-cert", "", "PEM file with the certificate to serve with")
	f.StringVar(&file.TLS.KeyFile, "tls-key", "", "PEM file with its key")
	f.StringVar(&file.TLS.CAFile, "tls-ca", "", "PEM file with the authorities that pollers' certificates must be of")
	f.StringVar(&file.Log.Level, "log-level", file.Log.Level, "trace, debug, info, warn or error")
	f.StringVar(&file.Log.Format, "log-format", file.Log.Format, "console, json, or auto: console on a terminal, else json")
	f.IntVar(&file.MaxInFlight, "max-in-flight", file.MaxInFlight, "how many checks may run at once")
	f.DurationVar(&file.StopTimeout, "stop-timeout", file.StopTimeout, "how long checks under way may go on when it stops")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		given := map[string]string{}
		f.Visit(func(flag *pflag.Flag) { given[flag.Name] = flag.Value.String() })
		read, err := readFile(cmd, *name)
		if err != nil {
			return err
		}
		*file = *read
		for flag, value := range given { // they win
			if err := f.Set(flag, value); err != nil {
				return err
			}
		}
		return serve(cmd.Context(), cmd.ErrOrStderr(), file)
	}
	return cmd
}

func fileFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", "", "the checker's file (TOML): limits, credentials, commands; flags win over it")
}

// readFile reads the checker's file, if one is named. What is wrong with it is told, each on a line of its own.
func readFile(cmd *cobra.Command, name string) (*checkerfile.File, error) {
	if name == "" {
		return checkerfile.Default(), nil
	}
	file, err := checkerfile.Read(name)
	all, ok := errors.AsType[checkerfile.Errors](err)
	if !ok {
		return file, err
	}
	for _, e := range all {
		cmd.PrintErrln(observe.Visible(e.Error()))
	}
	noun := "errors"
	if len(all) == 1 {
		noun = "error"
	}
	cmd.PrintErrf("%d %s in the checker's file\n", len(all), noun)
	return nil, errReported
}

func serve(ctx context.Context, logTo io.Writer, file *checkerfile.File) error {
	log, err := newLogger(logTo, file.Log.Level, file.Log.Format)
	if err != nil {
		return err
	}
	var checks []sdk.Check
	for _, kind := range probe.Kinds() {
		checks = append(checks, probed(kind, &file.Settings))
	}
	options := []sdk.Option{
		sdk.TLS(file.TLS.CertFile, file.TLS.KeyFile, file.TLS.CAFile),
		sdk.Logger(slog.New(zerolog.NewSlogHandler(log))),
		sdk.MaxInFlight(file.MaxInFlight),
		sdk.StopTimeout(file.StopTimeout),
	}
	for kind, limit := range file.Limits {
		options = append(options, sdk.Limit(kind, limit))
	}
	for _, w := range file.Warnings {
		log.Warn().Str("warning", w).Msg("the checker's file is right, but for this")
	}
	return sdk.Serve(ctx, file.Listen, checks, options...)
}

// kinds lists the kinds of checks and what their details are.
func kinds() string {
	var b strings.Builder
	for _, kind := range probe.Kinds() {
		_, _ = fmt.Fprintf(&b, "  %-8s  %s\n", kind.Type, kind.Details)
	}
	return b.String()
}

// probed makes a check of a probe.
func probed(kind probe.Kind, settings *probe.Settings) sdk.Check {
	return sdk.Func(kind.Type, func(ctx context.Context, r sdk.Request) (sdk.Answer, error) {
		found, err := kind.Look(ctx, probe.Target{Name: r.Name, Details: r.Details, Port: r.Port, Settings: settings})
		if err != nil {
			return sdk.Answer{}, err
		}
		return sdk.Answer{Available: found.Available, Message: found.Message, ResponseTime: found.ResponseTime}, nil
	})
}

func newLogger(w io.Writer, level, format string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || l == zerolog.NoLevel {
		return zerolog.Nop(), fmt.Errorf("--log-level is %q: use trace, debug, info, warn or error", level)
	}
	switch format {
	case "json":
	case "auto", "console":
		if format == "console" || isTerminal(w) {
			w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly + ".000"}
		}
	default:
		return zerolog.Nop(), fmt.Errorf("--log-format is %q: use auto, console or json", format)
	}
	return zerolog.New(zerolog.SyncWriter(w)).Level(l).With().Timestamp().Logger(), nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
