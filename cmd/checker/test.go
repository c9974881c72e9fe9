package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/conformance"
)

// notConnectedError is an error for which the exit code is 2, so that scripts can tell a checker that
// is not there from one that is wrong.
type notConnectedError struct{ error }

func (e notConnectedError) Unwrap() error { return e.error }

func testCommand() *cobra.Command {
	var t conformance.Target
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test ADDRESS --type TYPE",
		Short: "Test whether a checker keeps to the contract, and say what to change",
		Long: "Asks the checker at ADDRESS, which may be in any language, what pollers ask, and what goes wrong in the\n" +
			"field: types that it does not know, odd details, short deadlines, many calls at once. Prints what was found\n" +
			"and what to change. Advice is about what pollers can live with.\n\n" +
			"Exit code 0: nothing failed, 1: something failed, 2: no connection.",
		Example: "  checker test 127.0.0.1:50051 --type port --details 127.0.0.1:22",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("pass the checker's address: checker test 127.0.0.1:50051 --type TYPE --details DETAILS")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t.Address = args[0]
			return runTest(cmd.Context(), cmd.OutOrStdout(), t, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.Type, "type", "", "type of a check that should work")
	f.StringVar(&t.Details, "details", "", "details of that check: a target that is available")
	f.StringVar(&t.Results, "results", "", "type of a check that has results; its details are the same")
	f.DurationVar(&t.Timeout, "timeout", 5*time.Second, "deadline of each call")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&t.TLS.CertFile, "tls-cert", "", "PEM file with a certificate to show to the checker")
	f.StringVar(&t.TLS.KeyFile, "tls-key", "", "PEM file with its key")
	f.StringVar(&t.TLS.CAFile, "tls-ca", "", "PEM file with the authorities that the checker's certificate must be of; with none of these three, plaintext")
	f.StringVar(&t.TLS.ServerName, "server-name", "", "name in the checker's certificate, if it is not the host of ADDRESS")
	return cmd
}

// report is what --json prints.
type report struct {
	Address string                `json:"address"`
	Failed  int                   `json:"failed"`
	Tests   []conformance.Finding `json:"tests"`
}

func runTest(ctx context.Context, out io.Writer, t conformance.Target, asJSON bool) error {
	switch _, _, err := net.SplitHostPort(t.Address); {
	case err != nil:
		return fmt.Errorf("%q is no address of a checker: %w: use host:port", t.Address, err)
	case t.Type == "":
		return errors.New("--type is missing: name a check that should work")
	case t.Timeout <= 0:
		return fmt.Errorf("--timeout is %v: let it be above 0", t.Timeout)
	case (t.TLS.CertFile == "") != (t.TLS.KeyFile == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both or none")
	case t.TLS.CertFile != "" && t.TLS.CAFile == "":
		return errors.New("--tls-ca is missing: name the authorities that the checker's certificate must be of")
	case t.TLS.CertFile != "":
		t.TLS.Mode = check.TLSMutual
	case t.TLS.CAFile != "":
		t.TLS.Mode = check.TLSServer
	case t.TLS.ServerName != "":
		return errors.New("--server-name is for TLS: give --tls-ca, too")
	}
	findings, err := conformance.Run(ctx, t)
	if err != nil {
		return notConnectedError{fmt.Errorf("test %s: %w", t.Address, err)}
	}
	r := report{Address: t.Address, Tests: findings}
	for _, f := range findings {
		if f.Outcome == conformance.Failed {
			r.Failed++
		}
	}
	write := table
	if asJSON {
		write = printJSON
	}
	if err := write(out, r); err != nil {
		return fmt.Errorf("print what was found: %w", err)
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d tests of %s failed", r.Failed, len(findings), t.Address)
	}
	return nil
}

func printJSON(out io.Writer, r report) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// table prints a line for each test, and what to change below those that have not passed.
func table(out io.Writer, r report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range r.Tests {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", f.Outcome, f.Test, f.Found) // Flush has the error
		if f.Advice != "" {
			_, _ = fmt.Fprintf(w, "\t\t→ %s\n", f.Advice)
		}
	}
	return w.Flush()
}
