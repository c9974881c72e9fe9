//go:build hung && linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// fleet is all agents' checkers.
type fleet struct {
	kinds  []*kind // of each agent, by its number
	target string  // where a port is open, for checks that look
	freeze func()  // stops the process of the checker that freezes
}

// kind is how checkers behave, and where they listen: one stands for all agents of the kind.
type kind struct {
	name, address string
	// reason is what core must read of each run in a cycle; empty for the checker's own verdict. Nil
	// means that each verdict must also tell which time the check was asked.
	reason func(cycle int) string
}

func (k *kind) good() bool { return k.reason == nil }

// toml is the poller's configuration: what is not said is the default.
func (f fleet) toml(core string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\n"+
		"poll = { interval = %q, timeout = %q }\n", core, interval, timeout)
	for i, k := range f.kinds {
		fmt.Fprintf(&b, "[agents.%s]\naddress = %q\n", agentName(i), k.address)
		for j := range checksEach {
			fmt.Fprintf(&b, "[[agents.%s.checks]]\nname = %q\ntype = \"port\"\ndetails = %q\n", agentName(i), checkName(j), f.target)
		}
	}
	return b.String()
}

func healthyFleet(t *testing.T, asked *roll) fleet {
	t.Helper()
	good := &kind{name: "good", address: checker(t, sim.Behaviour{Answer: asked.answer})}
	f := fleet{target: good.address, freeze: func() {}}
	for range fleetSize {
		f.kinds = append(f.kinds, good)
	}
	return f
}

// hungFleet is the healthy one with every fifth checker hung.
func hungFleet(t *testing.T, asked *roll) fleet {
	t.Helper()
	f := healthyFleet(t, asked)
	always := func(reason string) func(int) string { return func(int) string { return reason } }
	once := func(reason string) func(int) string {
		return func(cycle int) string {
			if cycle == 0 {
				return reason
			}
			return "circuit_open"
		}
	}
	// What answers for its health is asked again in each cycle; what does not is left alone.
	calls := &kind{"hangs, says it is well", checker(t, sim.Hang()), always("timeout")}
	all := &kind{"hangs, its health too", checker(t, sim.HangAll()), once("timeout")}
	mute := &kind{"accepts, says nothing", muteAddress(t), once("unreachable")}
	slow := &kind{"answers too late", checker(t, late(timeout+time.Second)), always("timeout")}
	void := &kind{"drops every packet", voidAddress(t), once("unreachable")}
	address, freeze := frozen(t)
	freezes := &kind{"its process freezes", address, func(cycle int) string {
		return [...]string{"", "timeout", "circuit_open"}[min(cycle, 2)] // it freezes after its first cycle
	}}
	f.freeze = freeze
	ways := []*kind{calls, all, mute, freezes, slow, calls, all, mute, freezes, void}
	for i := 0; i < fleetSize; i += 5 {
		f.kinds[i] = ways[i/5%len(ways)]
	}
	return f
}

// late answers after d, whether somebody still waits or not.
func late(d time.Duration) sim.Behaviour {
	return sim.Behaviour{Answer: func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		<-time.After(d)
		return sim.OK().Answer(context.WithoutCancel(ctx), r)
	}}
}

// muteAddress is where connections are accepted and nothing is ever said.
func muteAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			open.Go(func() {
				_, _ = io.Copy(io.Discard, conn) // until the poller gives it up
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Wait()
	})
	return l.Addr().String()
}

// voidAddress is where nothing comes back, not even a refusal, as behind a firewall: the kernel drops
// whatever comes for the socket.
func voidAddress(t *testing.T) string {
	t.Helper()
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
				&unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]})
		})
		return errors.Join(err, failed)
	}}
	config.SetMultipathTCP(false)
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// frozen starts the built-in checks as they are shipped. Freeze stops their process; it goes on, and
// ends in order, at the end of the test.
func frozen(t *testing.T) (address string, freeze func()) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "checker")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../checker").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--log-format", "json")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := bufio.NewReader(stderr)
	drained := make(chan struct{})
	signal := func(s syscall.Signal) {
		if err := cmd.Process.Signal(s); err != nil {
			t.Errorf("%v to the checker: %v", s, err)
		}
	}
	t.Cleanup(func() {
		signal(syscall.SIGCONT)
		signal(syscall.SIGTERM)
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("the checker ended with %v", err)
		}
	})
	first, err := log.ReadBytes('\n')
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, log)
	}()
	var line struct{ Listen string }
	if err != nil || json.Unmarshal(first, &line) != nil || line.Listen == "" {
		t.Fatalf("the checker's first words: %s (%v)", first, err)
	}
	return line.Listen, func() { signal(syscall.SIGSTOP) }
}
