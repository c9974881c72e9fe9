//go:build flood && linux

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/serviceradar/poller/proto/monitoring"
)

const (
	// floodSize is how many checks are under way at once.
	floodSize = 10_000
	// floodCost bounds what one of them may take of the checker's memory, in KiB.
	floodCost = 128
)

// TestFlood has one checker, a process of its own, ask 10,000 web pages at once, all of which let it wait until the last has been
// asked for: it takes a bounded amount of memory, and leaves no descriptor open.
func TestFlood(t *testing.T) {
	p := startChecker(t, "--max-in-flight", strconv.Itoa(floodSize))
	pid := p.cmd.Process.Pid
	idle := memoryOf(t, pid, "VmRSS:")

	var asked atomic.Int64
	full, measured := make(chan struct{}), make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == floodSize {
			close(full)
		}
		select {
		case <-measured:
		case <-r.Context().Done():
		}
	}))
	defer web.Close()

	const pollers = 20
	var clients []monitoring.AgentServiceClient
	for range pollers {
		conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		clients = append(clients, monitoring.NewAgentServiceClient(conn))
	}
	began := time.Now()
	var calls sync.WaitGroup
	var wrong atomic.Pointer[string]
	for i := range floodSize {
		calls.Go(func() {
			r, err := clients[i%pollers].GetStatus(t.Context(), &monitoring.StatusRequest{ServiceName: "web", ServiceType: "http", Details: web.URL})
			if err != nil || !r.GetAvailable() {
				said := fmt.Sprintf("%s, %v", r.GetMessage(), err)
				wrong.Store(&said)
			}
		})
	}
	select {
	case <-full:
	case <-time.After(25 * time.Second):
		t.Fatalf("only %d checks are under way", asked.Load())
	}
	flooded, descriptors := memoryOf(t, pid, "VmRSS:"), descriptorsOf(t, pid)
	close(measured)
	calls.Wait()
	took := time.Since(began)
	if said := wrong.Load(); said != nil {
		t.Fatalf("not all checks were answered for; one of them: %s", *said)
	}
	left := descriptorsOf(t, pid)
	for patience := time.Now().Add(10 * time.Second); left > pollers+20 && time.Now().Before(patience); left = descriptorsOf(t, pid) {
		<-time.After(20 * time.Millisecond)
	}
	each := (flooded - idle) / floodSize
	t.Logf("%d http checks under way at once, all answered in %v: %d MiB, idle %d, %d KiB for each; %d descriptors, %d afterwards, of which %d are pollers'",
		floodSize, took.Round(time.Millisecond), flooded>>10, idle>>10, each, descriptors, left, pollers)
	if each > floodCost {
		t.Errorf("a check takes %d KiB, above %d", each, floodCost)
	}
	if descriptors < floodSize {
		t.Errorf("%d descriptors were open: they were not under way at once", descriptors)
	}
	if left > pollers+20 {
		t.Errorf("%d descriptors are left open", left)
	}
}

// memoryOf returns a line of /proc/PID/status in KiB.
func memoryOf(t *testing.T, pid int, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n"+name)
	var kib int
	if _, err := fmt.Sscanf(after, "%d kB", &kib); err != nil {
		t.Fatalf("no %s in /proc/%d/status: %v", name, pid, err)
	}
	return kib
}

func descriptorsOf(t *testing.T, pid int) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}
