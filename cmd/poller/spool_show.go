package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
)

func spoolShowCommand(where *spoolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show {-c FILE | --dir DIR} ID",
		Short: "Show all of one report, or of what is damaged, as JSON",
		Long: "Shows what has this id as JSON: its kind, times and reason, and the report with the statuses in it. A\n" +
			"message is JSON if it is, else text, else base64, as message_as says. Of what can't be read the bytes are shown.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("show takes one id, of those that poller spool ls lists; found %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			place, err := where.find(cmd)
			if err != nil {
				return err
			}
			pick := pickIDs(args)
			if err := place.print(cmd.Context(), cmd.OutOrStdout(), "  ", pick); err != nil {
				return err
			}
			return pick.complainOfMissing(cmd)
		},
	}
}

func spoolExportCommand(where *spoolFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export {-c FILE | --dir DIR} [ID... | --aside] [-o FILE]",
		Short: "Write what is kept as JSON, an entry on each line",
		Long: "Writes what show shows, an entry on each line: of these ids, of what was set aside or is damaged, or of\n" +
			"all that there is, in the order of ls. Nothing is removed.",
		Example: "  poller spool export -c poller.toml --aside | jq 'select(.reason | contains(\"partition\"))'",
	}
	aside := cmd.Flags().Bool("aside", false, "only what was set aside or is damaged")
	out := cmd.Flags().StringP("output", "o", "", "write to this file, for its owner to read, instead of stdout")
	force := cmd.Flags().Bool("force", false, "overwrite the file of -o if there is one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *force && *out == "":
			return errors.New("--force is about the file of -o; give that, too")
		case *aside && len(args) > 0:
			return errors.New("give ids or --aside, not both")
		}
		place, err := where.find(cmd)
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context()) // or half a file would be left
		defer stop()
		pick := pickIDs(args)
		pick.aside, pick.all = *aside, !*aside && len(args) == 0
		return place.export(ctx, cmd, pick, *out, *force)
	}
	return cmd
}

// export writes what is picked to a file, or to stdout if none is named.
func (p spoolPlace) export(ctx context.Context, cmd *cobra.Command, pick *picked, path string, force bool) error {
	if path == "" {
		if err := p.print(ctx, cmd.OutOrStdout(), "", pick); err != nil {
			return err
		}
		return pick.complainOfMissing(cmd)
	}
	if err := mayWrite(path, force); err != nil {
		return err
	}
	err := replaceFile(path, func(out io.Writer) error {
		err := p.print(ctx, out, "", pick)
		if err == nil && len(pick.ids) > 0 && pick.entries == 0 {
			err = errReported // below
		}
		return err
	})
	if err != nil && !errors.Is(err, errReported) {
		return fmt.Errorf("cannot write to %s, which is as it was: %w", path, err)
	}
	if err == nil {
		cmd.PrintErrf("%d of what is kept written to %s\n", pick.entries, path)
	}
	return pick.complainOfMissing(cmd)
}

// print prints what is picked as JSON, one after the other.
func (p spoolPlace) print(ctx context.Context, w io.Writer, indent string, pick *picked) error {
	out := bufio.NewWriter(w)
	err := spool.Look(p.dir, func(e spool.Entry) error {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if !pick.take(&e) {
			return nil
		}
		return printEntry(out, &e, indent)
	})
	return errors.Join(err, out.Flush())
}

// spoolEntry is an entry as JSON.
type spoolEntry struct {
	ID     string               `json:"id"`
	Kind   spool.EntryKind      `json:"kind"`
	Time   string               `json:"time,omitempty"`
	Since  string               `json:"since,omitempty"`
	Reason string               `json:"reason,omitempty"`
	File   string               `json:"file"`
	Bytes  int64                `json:"bytes"`
	Report *wire.ReadableReport `json:"report,omitempty"`
	// Problem is why there is no report.
	Problem string `json:"problem,omitempty"`
	// Dump has the bytes as hexdump -C shows them, if there is no report.
	Dump []string `json:"dump,omitempty"`
}

func printEntry(w io.Writer, e *spool.Entry, indent string) error {
	out := spoolEntry{
		ID: e.ID, Kind: e.Kind, Time: exactly(e.At), Since: exactly(e.Since), Reason: e.Reason, File: e.File, Bytes: e.Bytes,
	}
	if e.Kind != spool.Unreadable {
		report, err := wire.Readable(e.Body)
		if err != nil {
			out.Problem = err.Error()
		}
		out.Report = report
	}
	if out.Report == nil && len(e.Body) > 0 {
		out.Dump = strings.Split(strings.TrimRight(hex.Dump(e.Body), "\n"), "\n")
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(out); err != nil {
		return fmt.Errorf("write %s as JSON: %w", e.ID, err)
	}
	_, err := w.Write(observe.VisibleJSON(text.Bytes()))
	return err
}

func exactly(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
