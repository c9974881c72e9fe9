//go:build (cluster || hung || spoolcost) && linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What the tests that measure the poller as it is shipped have in common.
const (
	fleetSize  = 2000
	checksEach = 5
	interval   = 10 * time.Second
	// quiet is the moment of a cycle when all agents were started long ago: poll.rate starts them within 4 s.
	quiet = interval * 3 / 4
)

// agentName is the same with each fleet, because it decides on the agent's slot.
func agentName(i int) string { return fmt.Sprintf("agent-%04d", i) }

func checkName(i int) string { return fmt.Sprintf("check-%d", i) }

// startQuietly starts the poller, with its log in a file. Stop stops it in order, and wants it to end well.
func startQuietly(t *testing.T, file string) (pid int, logFile string, stop func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	cmd := exec.CommandContext(t.Context(), binary, "run", "-c", file)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var failed error // known when it has ended
	go func() {
		defer close(ended)
		failed = cmd.Wait()
	}()
	t.Cleanup(func() {
		<-ended // the context ended it, if it had not ended
		if t.Failed() {
			t.Logf("the poller's last words:\n%s", tail(log.Name()))
		}
	})
	return cmd.Process.Pid, log.Name(), func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-ended
		if failed != nil {
			t.Errorf("the poller ended with %v", failed)
		}
	}
}

// timers runs one short timer after the other. The function that it returns ends that, and returns how
// late they were, in order.
func timers(t *testing.T) (end func() []time.Duration) {
	t.Helper()
	const short = 10 * time.Millisecond
	ended, late := make(chan struct{}), make(chan []time.Duration, 1)
	stop := sync.OnceFunc(func() { close(ended) })
	go func() {
		var all []time.Duration
		defer func() { late <- all }()
		for {
			began := time.Now()
			select {
			case <-ended:
				return
			case <-time.After(short):
				all = append(all, time.Since(began)-short)
			}
		}
	}()
	t.Cleanup(stop)
	return func() []time.Duration {
		stop()
		all := <-late
		slices.Sort(all)
		return all
	}
}

func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(text, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// quantile returns the value of a sorted list that is not above the given part of it.
func quantile(sorted []time.Duration, part float64) time.Duration {
	return sorted[int(part*float64(len(sorted)-1))]
}

func middle(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}
