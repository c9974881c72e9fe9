package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
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
		address := cmp.Or(*admin, loaded.Config.Admin.Listen)
		if address == "" {
			return errors.New(`admin.listen is "": where does the running poller listen? give it with --admin HOST:PORT`)
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
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+reachable(address)+daemon.DiffPath, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("the running poller's address %s: %w", address, err)
	}
	if host := request.URL.Hostname(); host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("the running poller's address %s is not of this machine, and a poller answers nobody else: run this where it runs, with --admin", address)
	}
	direct := &http.Client{Transport: &http.Transport{}} // through no proxy
	answer, err := direct.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the running poller at %s: %w: does it run there? --admin says where else", address, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of the running poller at %s: %w", address, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the running poller at %s answers %s: %s", address, answer.Status, observe.Visible(strings.TrimSpace(string(text))))
	}
	difference := new(daemon.Difference)
	if err := json.Unmarshal(text, difference); err != nil {
		return nil, fmt.Errorf("the answer from %s is not a poller's: %w", address, err)
	}
	return difference, nil
}

// reachable is where one who listens at an address can be reached from the same machine.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
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
