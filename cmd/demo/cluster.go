package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

//go:embed cluster.toml
var nodeSample string

// What there is to poll.
const (
	checkers     = 3
	agentsOfEach = 10
)

func clusterCommand() *cobra.Command {
	var length time.Duration
	var loop bool
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Three nodes that share 30 agents, while one of them is killed, one ended and one frozen",
		Long: "Starts three pollers as processes of their own, with checkers and a core on loopback, and shows who polls what while one\n" +
			"is killed, one is asked to end and one stands still. That takes 40 s. The exit code is 0 if no two nodes polled an agent in one\n" +
			"cycle, and in the end each agent was polled by one node.",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if length < 0 {
				return fmt.Errorf("--for %v: give a time above 0, or 0 to run to the end", length)
			}
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			}
			return demoCluster(ctx, os.Stdout, script, loop)
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "end after this time, in the middle of whatever happens; 0 means when all has been shown")
	cmd.Flags().BoolVar(&loop, "loop", false, "begin again when all has been shown, with other nodes in the parts, until Ctrl-C")
	return cmd
}

// step is what is done to a node, so long after the begin.
type step struct {
	at   time.Duration
	part int // which node: the parts go round with each time that the script is played
	deed deed
	do   func(*node) error // nil: nothing, the script is over
}

// script begins when all nodes have just been started, and ends with all of them running.
var script = []step{
	{at: 6 * time.Second, part: 0, do: (*node).kill, deed: deed{kind: goes, what: "killed (SIGKILL)"}},
	{at: 11 * time.Second, part: 0, do: (*node).start, deed: deed{kind: returns, what: "started again"}},
	{at: 19 * time.Second, part: 1, do: (*node).terminate, deed: deed{kind: goes, what: "asked to end (SIGTERM)"}},
	{at: 22 * time.Second, part: 1, do: (*node).start, deed: deed{kind: returns, what: "started again"}},
	{at: 30 * time.Second, part: 2, do: (*node).freeze, deed: deed{kind: goes, what: "frozen (SIGSTOP)", stood: true}},
	{at: 34 * time.Second, part: 2, do: (*node).goOn, deed: deed{kind: returns, what: "let go on (SIGCONT)", stood: true}},
	{at: 39 * time.Second},
}

// demoCluster plays the script, once or until ctx ends, and returns an error if something was not as it should be.
func demoCluster(ctx context.Context, out *os.File, script []step, loop bool) (err error) {
	if errSignals != nil {
		return errSignals
	}
	live := isatty.IsTerminal(out.Fd())
	s := &stage{out: out, live: live, log: &tail{out: out, keep: live}}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(context.WithoutCancel(ctx)); err != nil { // all of it outlives the nodes
		return err
	}
	s.say("the nodes talk to each other in plaintext, which they do on loopback only; elsewhere each has a certificate")
	if err := s.do(deed{kind: begins, what: "all nodes were started"}, (*node).start, s.nodes...); err != nil {
		return err
	}
	for round := 0; ; round++ {
		if err := s.play(ctx, script, round); err != nil || ctx.Err() != nil || !loop {
			return errors.Join(err, s.end())
		}
	}
}

// stage is the cluster and everything around it. It is for one goroutine, but for its runs.
type stage struct {
	scene
	out  *os.File
	live bool
	log  *tail

	runs  *runs
	nodes []*node
	shown time.Time
}

// place is what a node's configuration is filled in with.
type place struct {
	Node, State, Core, Listen, Remote string
	Seeds                             []string
	Agents                            []agentAt
}

type agentAt struct{ Name, Address string }

func (s *stage) start(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, which is the nodes', too: %w", err)
	}
	dir, err := os.MkdirTemp("", "poller-cluster-")
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func() error { return os.RemoveAll(dir) })
	at, err := s.around(ctx)
	if err != nil {
		return err
	}
	names := []string{"a", "b", "c"}
	ports, err := freeAddresses(ctx, 2*len(names))
	if err != nil {
		return err
	}
	at.Seeds = ports[:len(names)]
	for i, name := range names {
		at.Node, at.State, at.Listen, at.Remote = name, filepath.Join(dir, name), ports[i], ports[len(names)+i]
		if err := os.Mkdir(at.State, 0o700); err != nil {
			return err
		}
		file := filepath.Join(dir, name+".toml")
		if err := writeConfiguration(file, at); err != nil {
			return err
		}
		s.nodes = append(s.nodes, &node{name: name, program: program, file: file, log: s.log, state: dead})
	}
	s.stops = append(s.stops, func() error { return endAll(s.nodes) })
	return nil
}

// around starts core and the checkers, and says where they and their agents are.
func (s *stage) around(ctx context.Context) (at place, err error) {
	s.core.Discard = true
	l, err := listen(ctx)
	if err != nil {
		return at, err
	}
	core := s.core.Serve(l, nil)
	s.stops = append(s.stops, func() error { core.Stop(); return nil })
	at.Core = core.Addr()

	var names []string
	for i := range checkers * agentsOfEach {
		names = append(names, fmt.Sprintf("agent-%02d", i+1))
	}
	s.runs = newRuns(names, time.Now())
	checker := sim.NewChecker(sim.Behaviour{Answer: func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		s.runs.note(r.GetAgentId(), r.GetPollerId(), time.Now())
		return sim.OK().Answer(ctx, r)
	}})
	for theirs := range slices.Chunk(names, agentsOfEach) {
		if l, err = listen(ctx); err != nil {
			return at, err
		}
		server := checker.Serve(l, nil)
		s.stops = append(s.stops, func() error { server.Stop(); return nil })
		for _, name := range theirs {
			at.Agents = append(at.Agents, agentAt{Name: name, Address: server.Addr()})
		}
	}
	return at, nil
}

func writeConfiguration(file string, at place) error {
	var text strings.Builder
	if err := template.Must(template.New("cluster.toml").Parse(nodeSample)).Execute(&text, at); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text.String()), 0o600)
}

// freeAddresses finds addresses on loopback on which nobody listens. They are below those that systems give to outgoing connections,
// one of which could else take the port of a node that is dead for a while.
func freeAddresses(ctx context.Context, n int) ([]string, error) {
	const from, to, tries = 20000, 30000, 100
	var err error
	var found []string
	for range tries {
		var l net.Listener
		address := fmt.Sprintf("127.0.0.1:%d", from+rand.IntN(to-from)) //nolint:gosec // it need not be hard to guess
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", address); err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // not before all are found, so that no two are the same
		if found = append(found, address); len(found) == n {
			return found, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports from %d on: %w", n, from, err)
}

// play plays the script, and returns an error as soon as something is not as it should be.
func (s *stage) play(ctx context.Context, script []step, round int) error {
	began := time.Now()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for next := 0; next < len(script); {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.look(); err != nil {
			return err
		}
		s.say(s.runs.news(false))
		s.show()
		step := script[next]
		if time.Since(began) < step.at {
			continue
		}
		next++
		s.say(s.runs.news(true))
		if step.do == nil {
			return s.runs.alone(time.Now())
		}
		n := s.nodes[(step.part+round)%len(s.nodes)]
		d := step.deed
		d.node, d.what = n.name, n.name+" was "+d.what
		if err := s.do(d, step.do, n); err != nil {
			return err
		}
	}
	return nil
}

// do does something to nodes.
func (s *stage) do(d deed, what func(*node) error, nodes ...*node) error {
	s.runs.did(d, time.Now())
	for _, n := range nodes {
		if err := what(n); err != nil {
			return err
		}
	}
	s.say(d.what)
	return nil
}

// look looks after the nodes.
func (s *stage) look() error {
	for _, n := range s.nodes {
		ended, err := n.look()
		if err != nil {
			return err
		}
		if ended {
			s.say(fmt.Sprintf("%s has ended, %s after it was asked to", n.name, seconds(time.Since(n.asked))))
		}
	}
	return nil
}

// end has all nodes end, and sums up.
func (s *stage) end() error {
	s.runs.did(deed{kind: ends, what: "all were asked to end"}, time.Now())
	err := endAll(s.nodes)
	_, printed := fmt.Fprintf(s.out, "\nat the end:\n%s", s.runs.summary())
	err = errors.Join(err, printed, s.runs.verdict())
	if violations := s.core.Violations(); len(violations) > 0 {
		err = errors.Join(err, fmt.Errorf("core saw violations of the contract: %s", strings.Join(violations, "; ")))
	}
	return err
}

// say tells of something; nothing is not told.
func (s *stage) say(text string) {
	if text != "" {
		_, _ = fmt.Fprintf(s.log, "%s  %s\n", s.time(), text)
	}
}

func (s *stage) time() string { return fmt.Sprintf("%6s", seconds(time.Since(s.runs.began))) }

// show shows the table every second; on something that is no terminal only once in a while, in a line.
func (s *stage) show() {
	every := 2 * time.Second
	if s.live {
		every = time.Second
	}
	now := time.Now()
	if now.Sub(s.shown) < every {
		return
	}
	s.shown = now
	shares, gap := s.runs.now(now)
	if !s.live {
		var states []string
		for _, n := range s.nodes {
			states = append(states, fmt.Sprintf("%s %-6s %2d", n.name, n.state, shares[n.name]))
		}
		_, _ = fmt.Fprintf(s.out, "%s  %s | longest gap now %s\n", s.time(), strings.Join(states, " | "), seconds(gap))
		return
	}
	_, _ = fmt.Fprintf(s.out, "%safter %s, as the checkers see it:\n", home, seconds(now.Sub(s.runs.began)))
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NODE\tIT\tPOLLS")
	for _, n := range s.nodes {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", n.name, n.state, agents(shares[n.name]))
	}
	_ = w.Flush()
	_, _ = fmt.Fprintf(s.out, "the longest that an agent was not polled is %s\n\n%s", seconds(gap), s.log.lines())
}
