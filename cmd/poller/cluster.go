package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
)

// adminTimeout is what a running poller has to answer.
const adminTimeout = 10 * time.Second

func clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster (-c FILE | --admin HOST:PORT)",
		Short: "Print what a running poller knows of its cluster: nodes, shares, moves",
		Long: "Prints what the running poller knows of its cluster: the nodes that are alive, how many agents each owns and polls, whether this\n" +
			"node may poll, and what it waits for. The exit code is 0, or 1 if this node may not poll.",
		Args: noArgs,
	}
	find := adminFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print it as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		address, err := find()
		if err != nil {
			return err
		}
		state, err := askCluster(cmd.Context(), address)
		if err != nil {
			return err
		}
		if *asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(state)
		} else {
			err = printCluster(cmd.OutOrStdout(), state)
		}
		if err == nil && !state.Polls {
			return errReported
		}
		return err
	}
	return cmd
}

func askCluster(ctx context.Context, address string) (*daemon.ClusterState, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	state := new(daemon.ClusterState)
	return state, askAdmin(ctx, http.MethodGet, address, daemon.ClusterPath, nil, state)
}

func printCluster(w io.Writer, s *daemon.ClusterState) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) } // Flush returns what was wrong
	say("cluster %s: %s of %d alive, a majority is %d", s.Cluster, count(len(s.Nodes), "node"), s.Size, s.Majority)
	switch {
	case s.Polls && s.Minority:
		say("this is %s, which polls without a majority (cluster.on_minority = \"keep\")", s.Node)
	case s.Polls:
		say("this is %s, which may poll", s.Node)
	default:
		say("this is %s, which polls nothing: it does not hear from a majority", s.Node)
	}
	say("")
	say("NODE\tPOLLS\tOWNS\tOF\tWEIGHT\tCONFIG\tCLOCK\tRTT\tVERSION\t")
	for _, n := range s.Nodes {
		name := n.Name
		if n.Draining {
			name += " (draining)"
		}
		say("%s\t%d\t%d\t%d\t%g\t%s\t%v\t%v\t%s\t", observe.Visible(name), n.Held, n.Owned, n.Agents, float64(n.Weight)/1000, observe.Visible(n.Config),
			seconds(n.Offset), seconds(n.RTT), observe.Visible(n.Version))
	}
	say("")
	say("%s claimed, %d on their way to other nodes", count(s.Claimed, "agent"), s.Leaving)
	for _, node := range slices.Sorted(maps.Keys(s.Waiting)) {
		say("%s has not answered for %s", observe.Visible(node), count(s.Waiting[node], "claim"))
	}
	if n := len(s.Pinned); n > 0 {
		var pins []string
		for _, agent := range slices.Sorted(maps.Keys(s.Pinned)) {
			pins = append(pins, agent+" to "+s.Pinned[agent])
		}
		say("%s pinned: %s", are(n, "agent"), someOf(pins))
	}
	if hashes := configs(s); len(hashes) > 1 {
		say("the nodes' configurations differ: %s", observe.Visible(strings.Join(hashes, ", ")))
	}
	return out.Flush()
}

// are says that there is a number of things.
func are(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return count(n, thing) + " are"
}

// someOf lists the first of many, as a terminal may be shown them.
func someOf(list []string) string {
	const most = 5
	text := strings.Join(list[:min(len(list), most)], ", ")
	if more := len(list) - most; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return observe.Visible(text)
}

// seconds is a time in s as people read it.
func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Microsecond)
}

// configs are the configurations that there are.
func configs(s *daemon.ClusterState) []string {
	var hashes []string
	for _, n := range s.Nodes {
		if n.Config != "" {
			hashes = append(hashes, n.Config)
		}
	}
	slices.Sort(hashes)
	return slices.Compact(hashes)
}

func drainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain (-c FILE | --admin HOST:PORT) [--node NAME]",
		Short: "Have a node of the cluster hand over all its agents, and end",
		Long: "Has a node, the running poller itself or another of its cluster, hand over all its agents to the others and end, as SIGTERM does.\n" +
			"It returns when the node is gone.",
		Args: noArgs,
	}
	find := adminFlags(cmd)
	node := cmd.Flags().String("node", "", "the node, if not the one that is asked")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		address, err := find()
		if err != nil {
			return err
		}
		before, err := askCluster(cmd.Context(), address)
		if err != nil {
			return err
		}
		if *node == "" {
			*node = before.Node
		}
		if err := giveOrder(cmd.Context(), address, *node, daemon.OrderDrain); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s hands over its agents, and ends\n", *node); err != nil {
			return err
		}
		return awaitGone(cmd.Context(), address, before, *node)
	}
	return cmd
}

func reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload (-c FILE | --admin HOST:PORT) [--node NAME]",
		Short: "Have a node of the cluster look at its configuration again, as SIGHUP does",
		Args:  noArgs,
	}
	find := adminFlags(cmd)
	node := cmd.Flags().String("node", "", "the node, if not the one that is asked")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		address, err := find()
		if err != nil {
			return err
		}
		return giveOrder(cmd.Context(), address, *node, daemon.OrderReload)
	}
	return cmd
}

// giveOrder has a node do something; without a name, the one that is asked.
func giveOrder(ctx context.Context, address, node, what string) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	query := url.Values{daemon.OrderWhat: {what}, daemon.OrderNode: {node}}
	return askAdmin(ctx, http.MethodPost, address, daemon.OrderPath+"?"+query.Encode(), nil, nil)
}

// awaitGone waits until a node is gone: the one that is asked does not answer any more, or has not got the other, as it was, any more.
func awaitGone(ctx context.Context, address string, before *daemon.ClusterState, node string) error {
	for {
		state, err := askCluster(ctx, address)
		switch {
		case err == nil && bootOf(state, node) != bootOf(before, node):
			return nil
		case err != nil && node == before.Node && ctx.Err() == nil:
			return nil // it does not answer any more, which is what was waited for
		case err != nil:
			return err
		}
		select {
		case <-time.After(time.Second / 2):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bootOf returns which life of a node there is; empty if there is none.
func bootOf(s *daemon.ClusterState, node string) string {
	for _, n := range s.Nodes {
		if n.Name == node {
			return n.Boot
		}
	}
	return ""
}
