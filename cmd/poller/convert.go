package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/convert"
)

func convertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert FILE [-o FILE]",
		Short: "Make a configuration of ServiceRadar's poller.json",
		Long: "Makes a configuration of the JSON file of ServiceRadar's poller and prints it, with comments where\n" +
			"something was changed; - reads the file from standard input. What could not be carried over, and why,\n" +
			"goes to stderr. The exit code is 0 if there is a configuration, which is then right, and 1 with all\n" +
			"errors if not.",
		Example: "  poller convert /etc/serviceradar/poller.json -o poller.toml\n  poller validate -c poller.toml",
		Args:    oneFile,
	}
	out := cmd.Flags().StringP("output", "o", "", "write the configuration to this file, for its owner to read, instead of stdout")
	force := cmd.Flags().Bool("force", false, "overwrite the file of -o if there is one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *force && *out == "" {
			return errors.New("--force is about the file of -o; give that, too")
		}
		name, text, err := readInput(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		result, err := convert.ServiceRadar(name, text)
		if list, ok := errors.AsType[config.Errors](err); ok {
			for _, e := range list {
				cmd.PrintErrln(e.Error())
			}
			cmd.PrintErrf("%s in the way: nothing was converted\n", count(len(list), "error"))
			return errReported
		}
		if err != nil {
			return err
		}
		if err := writeOutput(cmd.OutOrStdout(), args[0], *out, *force, result.TOML); err != nil {
			return err
		}
		printNotes(cmd, result.Notes)
		if *out != "" {
			cmd.PrintErrf("written to %s; look at its comments, then: poller validate -c %[1]s\n", *out)
		}
		return nil
	}
	return cmd
}

// oneFile wants the one argument of convert.
func oneFile(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("nothing to convert: give the path of ServiceRadar's poller.json, or - to read it from standard input")
	case 1:
		return nil
	}
	return fmt.Errorf("convert takes one file, found %q as well; the file to write goes with -o", args[1])
}

// maxInput bounds the file to convert: more is a mistake, such as a path to something else.
const maxInput = 64 << 20

// readInput returns a file's text, or standard input's if the path is "-", and its name in messages.
func readInput(stdin io.Reader, path string) (name string, text []byte, err error) {
	name, from := "standard input", stdin
	if path != "-" {
		file, err := os.Open(path) //nolint:gosec // the operator names the file
		if err != nil {
			return "", nil, fmt.Errorf("cannot read the file to convert: %w", err)
		}
		defer func() { _ = file.Close() }() // it was only read
		name, from = path, file
	}
	text, err = io.ReadAll(io.LimitReader(from, maxInput+1))
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("cannot read the file to convert: %w", err)
	case len(text) > maxInput:
		return "", nil, fmt.Errorf("%s is larger than 64 MiB; is this the configuration of ServiceRadar's poller?", name)
	}
	return name, text, nil
}

// writeOutput writes the configuration that was made of the input to a file, or to stdout if none is named.
func writeOutput(stdout io.Writer, input, path string, force bool, toml []byte) error {
	if path == "" {
		_, err := stdout.Write(toml)
		return err
	}
	if isSame(input, path) {
		return fmt.Errorf("%s is the file to convert; give another one with -o", path)
	}
	if err := mayWrite(path, force); err != nil {
		return err
	}
	err := replaceFile(path, func(w io.Writer) error {
		_, err := w.Write(toml)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write the configuration to %s, which is as it was: %w", path, err)
	}
	return nil
}

// mayWrite refuses a file of -o that is there already, unless forced.
func mayWrite(path string, force bool) error {
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file; leave out -o to write to standard output", path)
	case err == nil && !force:
		return fmt.Errorf("%s is there already; give another file with -o, or overwrite it with --force", path)
	}
	return nil
}

// replaceFile writes a file for its owner to read, as a whole or not at all: what is written may hold passwords,
// and what was there before may be needed.
func replaceFile(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = write(file)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// isSame tells whether two paths lead to one file.
func isSame(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// printNotes tells what could not be carried over as it was.
func printNotes(cmd *cobra.Command, notes []convert.Note) {
	for _, n := range notes {
		kind := "note:"
		if n.Warning {
			kind = "warning:"
		}
		cmd.PrintErrln(kind, n)
	}
}
