//go:build cluster && linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// node is one of a rig's. It may have several lives.
type node struct {
	place
	t       *testing.T
	number  int
	program string
	file    string // its configuration
	log     string // of all its lives

	process *os.Process // of this life
	ended   chan struct{}
	failed  error // known when it has ended
}

func (n *node) String() string { return nodeName(n.number) }

func (n *node) start() {
	n.t.Helper()
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	args := slices.Concat(n.in, []string{n.program, "run", "-c", n.file})
	cmd := exec.CommandContext(n.t.Context(), args[0], args[1:]...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	n.process, n.ended = cmd.Process, ended
	go func() {
		defer close(ended)
		n.failed = cmd.Wait()
	}()
	n.t.Cleanup(func() { <-ended }) // the context ended it, if it had not ended
}

func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.process.Signal(s); err != nil {
		n.t.Fatalf("%v to %s: %v; its last words:\n%s", s, n, err, tail(n.log))
	}
}

// kill gives the node no chance to tell anybody.
func (n *node) kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	<-n.ended
}

// stop stops the node in order.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	const endsWithin = 20 * time.Second
	select {
	case <-n.ended:
	case <-time.After(endsWithin):
		n.t.Fatalf("%s did not end within %v of SIGTERM; its last words:\n%s", n, endsWithin, tail(n.log))
	}
	if n.failed != nil {
		n.t.Errorf("%s ended with %v", n, n.failed)
	}
}

func (n *node) isAlive() bool {
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// resources are what must not grow.
type resources struct{ goroutines, descriptors, memory float64 } // memory in MB

func (n *node) resources() resources {
	n.t.Helper()
	_, metrics := get(n.t, n.admin+":9464", "/metrics")
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	return resources{
		goroutines: metric(n.t, metrics, "go_goroutines"), descriptors: float64(len(descriptors)), memory: usageOf(n.t, n.process.Pid).rss,
	}
}

func metric(t *testing.T, metrics, name string) float64 {
	t.Helper()
	_, after, _ := strings.Cut(metrics, "\n"+name+" ")
	text, _, _ := strings.Cut(after, "\n")
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("there is no metric %s: %v", name, err)
	}
	return value
}

// complaints are the lines of a node's log above level info, by their messages, and what is no line of a log at all: words of
// the race detector, or of a panic.
func (n *node) complaints() (counts map[string]int, strange []string) {
	n.t.Helper()
	log, err := os.Open(n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	counts = make(map[string]int)
	s := bufio.NewScanner(log)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line struct{ Level, Message string }
		switch {
		case json.Unmarshal(s.Bytes(), &line) != nil:
			strange = append(strange, s.Text())
		case line.Level != "debug" && line.Level != "info":
			counts[line.Level+": "+line.Message]++
		}
	}
	if err := s.Err(); err != nil {
		n.t.Error(err)
	}
	return counts, strange
}

// tellComplaints logs those of all nodes, and fails the test for what is no line of a log.
func (r *rig) tellComplaints() {
	r.t.Helper()
	all := make(map[string]int)
	for _, n := range r.nodes {
		counts, strange := n.complaints()
		for message, times := range counts {
			all[message] += times
		}
		if len(strange) > 0 {
			r.t.Errorf("%s said what is no line of a log:\n%s", n, strings.Join(strange[:min(len(strange), 40)], "\n"))
		}
	}
	var lines []string
	for _, message := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, fmt.Sprintf("%6d %s", all[message], message))
	}
	r.t.Logf("lines of the nodes' logs above level info:\n%s", strings.Join(lines, "\n"))
}
