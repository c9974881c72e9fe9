package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/probe"
)

// What a check from the shell ends with, but for 0.
const (
	exitUnavailable exit = 1
	exitNotAsked    exit = 2
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [TYPE [TARGET]]",
		Short: "Run one check and print what it comes to",
		Long: "Runs one check from here and prints what it comes to. TARGET is what stands as details in the poller's\n" +
			"configuration: the target alone, or a JSON object. Without arguments the kinds of checks are listed:\n\n" + kinds() + "\n" +
			"The exit code is 0 if the target is available, 1 if not, and 2 if it could not be looked at.",
		Example: "  checker check port 127.0.0.1:22\n" + `  checker check http '{"target": "https://shop.example/"}' -c checker.toml`,
	}
	f := cmd.Flags()
	name := fileFlag(cmd)
	timeout := f.Duration("timeout", 5*time.Second, "how long the check may take")
	asJSON := f.Bool("json", false, "print it as a line of JSON")
	run := func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			_, err := io.WriteString(cmd.OutOrStdout(), kinds())
			return err
		}
		kind, details, err := question(args)
		if err != nil {
			return err
		}
		if *timeout <= 0 {
			return fmt.Errorf("--timeout is %v: let it be more than 0", *timeout)
		}
		file, err := readFile(cmd, *name)
		if err != nil {
			return err
		}
		for _, w := range file.Warnings {
			cmd.PrintErrln("warning:", observe.Visible(w))
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		found, err := kind.Look(ctx, probe.Target{Details: details, Settings: &file.Settings})
		if err != nil {
			return err
		}
		return printResult(cmd.OutOrStdout(), found, *asJSON)
	}
	// All that goes wrong before there is a verdict ends with exitNotAsked.
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return notAsked(cmd, run(cmd, args)) }
	cmd.SetFlagErrorFunc(notAsked)
	return cmd
}

// notAsked tells an error, if it is not a verdict, and returns the exit code.
func notAsked(cmd *cobra.Command, err error) error {
	if _, ok := errors.AsType[exit](err); ok || err == nil {
		return err
	}
	if !errors.Is(err, errReported) {
		cmd.PrintErrln("checker:", red(inColor(cmd.ErrOrStderr()), observe.Visible(err.Error())))
	}
	return exitNotAsked
}

// question reads what to ask.
func question(args []string) (probe.Kind, string, error) {
	all := probe.Kinds()
	i := slices.IndexFunc(all, func(k probe.Kind) bool { return k.Type == args[0] })
	switch {
	case i < 0:
		return probe.Kind{}, "", fmt.Errorf("unknown check type %q; checker check lists those that there are", args[0])
	case len(args) == 1: // some look at this machine; others say what they miss
		return all[i], "", nil
	case len(args) > 2:
		return probe.Kind{}, "", fmt.Errorf("found %q after the target: write a target with spaces, or a JSON object, in quotes", args[2])
	}
	return all[i], args[1], nil
}

// printResult prints what a check came to, and returns the exit code if the target is not available.
func printResult(w io.Writer, found probe.Result, asJSON bool) error {
	text := readable(found, inColor(w))
	if asJSON {
		line, err := json.Marshal(struct {
			Available    bool            `json:"available"`
			ResponseTime int64           `json:"response_time"` // ns
			Message      json.RawMessage `json:"message"`
		}{found.Available, found.ResponseTime.Nanoseconds(), found.Message})
		if err != nil {
			return fmt.Errorf("the answer can't be written as JSON: %w", err)
		}
		text = string(observe.VisibleJSON(line)) + "\n"
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if !found.Available {
		return exitUnavailable
	}
	return nil
}

// readable is a result for people: the verdict, and the answer's keys with their values one below the other.
func readable(found probe.Result, color bool) string {
	var b strings.Builder
	took := found.ResponseTime.Round(10 * time.Microsecond)
	if found.Available {
		fmt.Fprintf(&b, "available in %v\n", took)
	} else {
		b.WriteString(red(color, fmt.Sprintf("not available after %v", took)) + "\n")
	}
	entries := entriesOf(nil, "", found.Message)
	width := 0
	for _, e := range entries {
		width = max(width, utf8.RuneCountInString(e.key))
	}
	for _, e := range entries {
		indent := strings.Repeat(" ", width+2)
		value := observe.VisibleLines(e.value, indent)
		b.WriteString(red(color && e.key == "error", e.key+indent[utf8.RuneCountInString(e.key):]+value) + "\n")
	}
	return b.String()
}

// entry is a value of an answer and its dotted key.
type entry struct{ key, value string }

// entriesOf adds the entries of a JSON text to others, in its order. A list of objects has one for each of them.
func entriesOf(entries []entry, key string, text json.RawMessage) []entry {
	text = bytes.TrimSpace(text)
	shown := observe.Visible(key)
	decoder := json.NewDecoder(bytes.NewReader(text))
	switch {
	case bytes.HasPrefix(text, []byte("{")) && json.Valid(text):
		_, _ = decoder.Token() // text is valid, so no error comes here
		for decoder.More() {
			name, _ := decoder.Token()
			var value json.RawMessage
			_ = decoder.Decode(&value)
			path := fmt.Sprint(name)
			if key != "" {
				path = key + "." + path
			}
			entries = entriesOf(entries, path, value)
		}
		return entries
	case bytes.HasPrefix(text, []byte("[{")):
		var elems []json.RawMessage
		if json.Unmarshal(text, &elems) == nil {
			for i, elem := range elems {
				entries = append(entries, entry{shown + "[" + strconv.Itoa(i) + "]", string(elem)})
			}
			return entries
		}
	}
	var plain string
	if json.Unmarshal(text, &plain) != nil {
		plain = string(text)
	}
	return append(entries, entry{shown, plain})
}

func inColor(w io.Writer) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

func red(color bool, text string) string {
	if !color {
		return text
	}
	return "\x1b[31m" + text + "\x1b[0m"
}
