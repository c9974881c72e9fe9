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
	"strings"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/observe"
)

// adminFlags adds the flags that say where a running poller's admin server listens, and returns a function that finds it.
func adminFlags(cmd *cobra.Command) func() (address string, err error) {
	load := configFlags(cmd)
	admin := cmd.Flags().String("admin", "", "where the running poller's admin server listens, if not at the file's admin.listen; then no file is needed")
	return func() (string, error) {
		if *admin != "" {
			return *admin, nil
		}
		loaded, err := load()
		if err != nil {
			return "", err
		}
		return adminAddress("", loaded.Config.Admin.Listen)
	}
}

// adminAddress is where a running poller is asked.
func adminAddress(given, listen string) (string, error) {
	address := cmp.Or(given, listen)
	if address == "" {
		return "", errors.New(`admin.listen is "": where does the running poller listen? give it with --admin HOST:PORT`)
	}
	return address, nil
}

// askAdmin asks the poller that listens at address, on this machine, and reads its answer, as JSON into into if that is not nil.
func askAdmin(ctx context.Context, method, address, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+reachable(address)+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the running poller's address %s: %w", address, err)
	}
	if host := request.URL.Hostname(); host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("the running poller's address %s is not of this machine, and a poller answers nobody else: run this where it runs, with --admin", address)
	}
	direct := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // through no proxy
	answer, err := direct.Do(request)
	if err != nil {
		return fmt.Errorf("ask the running poller at %s: %w: does it run there? --admin says where else", address, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("read the answer of the running poller at %s: %w", address, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the running poller at %s answers %s: %s", address, answer.Status, observe.Visible(strings.TrimSpace(string(text))))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer from %s is not a poller's: %w", address, err)
	}
	return nil
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
