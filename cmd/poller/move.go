package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
)

func moveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "move (-c FILE | --admin HOST:PORT) --agent NAME [--agent NAME…] (--to NODE | --back)",
		Short: "Have a node of the cluster poll agents, or have them go back to where they belong",
		Long: "Has a node of the running poller's cluster poll agents until they are moved again, or, with --back, has them go where they belong by\n" +
			"themselves. No run is missed or made twice by that. While the node is away, others poll them. It returns when the poller that\n" +
			"is asked knows; the other nodes hear it from that one, and poller cluster shows when the agents are where they are to be.",
		Args: noArgs,
	}
	find := adminFlags(cmd)
	agents := cmd.Flags().StringArray("agent", nil, "an agent; may be given more than once")
	to := cmd.Flags().String("to", "", "the node that is to poll them")
	back := cmd.Flags().Bool("back", false, "they go where they belong by themselves")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case len(*agents) == 0:
			return errors.New("no agent is to be moved: say which with --agent NAME, once for each")
		case *back == (*to != ""):
			return errors.New("where are the agents to go? say it with --to NODE or with --back, one of the two")
		}
		address, err := find()
		if err != nil {
			return err
		}
		if err := moveAgents(cmd.Context(), address, *agents, *to); err != nil {
			return err
		}
		is := "is"
		if len(*agents) > 1 {
			is = "are"
		}
		where := "not pinned any more"
		if !*back {
			where = "pinned to " + observe.Visible(*to)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", someOf(*agents), is, where)
		return err
	}
	return cmd
}

// moveAgents has agents polled by a node; without its name, by those to which they belong.
func moveAgents(ctx context.Context, address string, agents []string, to string) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	query := url.Values{daemon.MoveAgent: agents, daemon.MoveTo: {to}}
	return askAdmin(ctx, http.MethodPost, address, daemon.MovePath+"?"+query.Encode(), nil, nil)
}
