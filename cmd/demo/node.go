package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
)

// nodeCommand is poller run in short: what the cluster's nodes are.
func nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "node -c FILE", Short: "A node of the demo's cluster, until SIGTERM or the end of its input",
		Args: cobra.NoArgs, Hidden: true, SilenceErrors: true, SilenceUsage: true,
	}
	file := cmd.Flags().StringP("config", "c", "", "configuration file (TOML)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return poll(cmd.Context(), *file, cmd.InOrStdin()) }
	return cmd
}

// poll polls until ctx ends, or the input, which is open as long as the demo lives.
func poll(ctx context.Context, file string, input io.Reader) error {
	loaded := config.Read(config.Source{File: file})
	if loaded.Err != nil {
		return loaded.Err
	}
	cfg := loaded.Config
	log, flush, err := observe.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	defer flush()
	signal.Ignore(syscall.SIGPIPE) // the demo, which reads the log, may be gone
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, input); cancel() }() // ends with the process
	d := daemon.New(daemon.Options{Config: cfg, Files: loaded.Files, Log: log})
	if err := d.Start(running); err != nil {
		return err
	}
	select {
	case <-d.ToEnd():
	case <-running.Done():
	}
	stopping, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
	defer cancelStop()
	return d.Stop(stopping)
}

// What a node is at the moment.
const (
	running = "runs"
	frozen  = "frozen"
	ending  = "ending"
	dead    = "dead"
)

// endTimeout is what a node has to end in that was asked to. It is more than its shutdown_timeout.
const endTimeout = 4 * time.Second

// node is a process of this program that polls, or the place for one. It is for one goroutine.
type node struct {
	name, program, file string
	log                 io.Writer

	state string
	asked time.Time // to end
	cmd   *exec.Cmd
	ended chan error
}

// start starts a process; there must be none.
func (n *node) start() error {
	if n.state != dead {
		return fmt.Errorf("node %s, process %d, was asked to end and has not", n.name, n.cmd.Process.Pid)
	}
	cmd := exec.Command(n.program, "node", "-c", n.file) //nolint:noctx,gosec // it is to end in order, also when our context has ended; it is our own program
	apart(cmd)
	log := &prefixed{to: n.log, prefix: n.name + ": "}
	cmd.Stdout, cmd.Stderr = log, log
	if _, err := cmd.StdinPipe(); err != nil { // Wait closes it, or our own end
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	n.state, n.cmd, n.ended = running, cmd, ended
	return nil
}

// freeze has the process stand still.
func (n *node) freeze() error { return n.signal(sigFreeze, frozen) }

// goOn ends that.
func (n *node) goOn() error { return n.signal(sigGoOn, running) }

// terminate asks the process to hand over what it has, and to end.
func (n *node) terminate() error {
	n.asked = time.Now()
	return n.signal(syscall.SIGTERM, ending)
}

// signal sends one to the process, and says what it is after it. If it has ended by then, that is for look to say.
func (n *node) signal(s os.Signal, state string) error {
	switch err := n.cmd.Process.Signal(s); {
	case errors.Is(err, os.ErrProcessDone):
		return nil
	case err != nil:
		return fmt.Errorf("send node %s, process %d, the signal %q: %w", n.name, n.cmd.Process.Pid, s, err)
	}
	n.state = state
	return nil
}

// kill ends the process at once.
func (n *node) kill() error {
	if err := n.signal(os.Kill, ending); err != nil {
		return err
	}
	<-n.ended //nolint:errcheck // what it says is that it was killed
	n.state = dead
	return nil
}

// look tells whether the process has ended since it was looked at last. It is an error if it has not been asked to, or failed.
func (n *node) look() (bool, error) {
	if n.state == dead {
		return false, nil
	}
	select {
	case err := <-n.ended:
		return true, n.gone(err)
	default:
		return false, nil
	}
}

func (n *node) gone(err error) error {
	asked := n.state == ending
	n.state = dead
	switch {
	case !asked:
		return fmt.Errorf("node %s ended though nobody had asked it to (%v); what it said is above", n.name, n.cmd.ProcessState)
	case err != nil:
		return fmt.Errorf("node %s, asked to end, failed: %w; what it said is above", n.name, err)
	}
	return nil
}

// endAll ends all that run: it asks first, and kills those that don't end in time. That is an error.
func endAll(nodes []*node) error {
	var errs []error
	for _, n := range nodes {
		if n.state == frozen {
			errs = append(errs, n.goOn())
		}
		if n.state == running {
			errs = append(errs, n.terminate())
		}
	}
	late := time.After(endTimeout)
	for _, n := range nodes {
		if n.state == dead {
			continue
		}
		select {
		case err := <-n.ended:
			errs = append(errs, n.gone(err))
		case <-late:
			late = closed // for the others, too
			errs = append(errs, fmt.Errorf("node %s has not ended %v after it was asked to", n.name, endTimeout), n.kill())
		}
	}
	return errors.Join(errs...)
}

// closed is a time that has come.
var closed = func() <-chan time.Time { c := make(chan time.Time); close(c); return c }()

// prefixed says of each line who wrote it.
type prefixed struct {
	to     io.Writer
	prefix string
	rest   []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		line, rest, found := bytes.Cut(p.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		p.rest = rest
		if _, err := fmt.Fprintf(p.to, "%s%s\n", p.prefix, line); err != nil {
			return len(b), err
		}
	}
}
