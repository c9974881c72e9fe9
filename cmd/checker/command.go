package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/probe"
	"github.com/serviceradar/poller/sdk"
)

func command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "checker",
		Short:         "Serve the built-in checks to pollers",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.AddCommand(serveCommand())
	return cmd
}

// settings are serve's flags.
type settings struct {
	listen              string
	cert, key, ca       string
	logLevel, logFormat string
	maxInFlight         int
	stopTimeout         time.Duration
}

func serveCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the built-in checks until SIGTERM or SIGINT",
		Long: "Serves the checks until SIGTERM or SIGINT; then checks under way may finish for the time of\n" +
			"--stop-timeout. A second signal ends it at once.\n\n" + kinds() + "\n" +
			"Anybody who can reach the address may have targets looked at from this machine: where it is not\n" +
			"loopback, give a certificate, its key, and the authorities of the pollers' certificates.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), cmd.ErrOrStderr(), s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.listen, "listen", "127.0.0.1:50051", "address to listen on")
	f.StringVar(&s.cert, "tls-cert", "", "PEM file with the certificate to serve with")
	f.StringVar(&s.key, "tls-key", "", "PEM file with its key")
	f.StringVar(&s.ca, "tls-ca", "", "PEM file with the authorities that pollers' certificates must be of")
	f.StringVar(&s.logLevel, "log-level", "info", "trace, debug, info, warn or error")
	f.StringVar(&s.logFormat, "log-format", "auto", "console, json, or auto: console on a terminal, else json")
	f.IntVar(&s.maxInFlight, "max-in-flight", 256, "how many checks may run at once")
	f.DurationVar(&s.stopTimeout, "stop-timeout", 5*time.Second, "how long checks under way may go on when it stops")
	return cmd
}

func serve(ctx context.Context, logTo io.Writer, s settings) error {
	log, err := newLogger(logTo, s.logLevel, s.logFormat)
	if err != nil {
		return err
	}
	var checks []sdk.Check
	for _, kind := range probe.Kinds() {
		checks = append(checks, probed(kind))
	}
	return sdk.Serve(ctx, s.listen, checks,
		sdk.TLS(s.cert, s.key, s.ca),
		sdk.Logger(slog.New(zerolog.NewSlogHandler(log))),
		sdk.MaxInFlight(s.maxInFlight),
		sdk.StopTimeout(s.stopTimeout),
	)
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
func probed(kind probe.Kind) sdk.Check {
	return sdk.Func(kind.Type, func(ctx context.Context, r sdk.Request) (sdk.Answer, error) {
		found, err := kind.Look(ctx, probe.Target{Name: r.Name, Details: r.Details, Port: r.Port})
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
