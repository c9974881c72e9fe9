//go:build spoolcost && linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

var drained = flag.Int("statuses", 1_000_000, "how many statuses TestDrain has in the spool, of 10,000 a cycle")

const (
	// drainMemory is by how many MB the poller may grow while it drains: it has a segment of 8 MiB and the
	// report out of it that is on its way, marshalled and not, and twice of all that before Go collects it.
	drainMemory = 96
	// drainSlower is how many times as long as that client the poller may take, which reads and checks what it
	// sends and asks to be sure before it goes on. A client that made the report anew would be beyond it.
	drainSlower = 3
)

// TestDrain lets the poller as it is shipped deliver a spool that is full of what 2,000 agents with 5 checks
// came to; and before and after that a mere client of gRPC, which has the same in memory, to such a core. The mean
// of both is what it is measured by, because the machine is not the same all the time.
func TestDrain(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	cycles := *drained / (fleetSize * checksEach)
	if cycles < 2 {
		t.Fatalf("-statuses=%d is too few", *drained)
	}
	dir, reports := onDisk(t), cycleReports(t)
	size := fill(t, daemon.SpoolDirectory(dir), reports, cycles)
	opening(t, daemon.SpoolDirectory(dir), size)

	want := cycles * len(reports)
	before := drainBare(t, reports, cycles)
	ours := drainPoller(t, dir, want)
	after := drainBare(t, reports, cycles)
	bare := (before.took + after.took) / 2
	ratio := ours.took.Seconds() / bare.Seconds()
	t.Logf("%d statuses in %d reports, %.0f MB:\n"+
		"a mere client:   %s\nthe poller:      %s\nthe same client: %s\nThe poller takes %.2f times as long (to be at most %v).",
		ours.statuses, want, float64(size)/1e6, before, ours, after, ratio, drainSlower)
	if all := cycles * fleetSize * checksEach; before.statuses != all || ours.statuses != all || after.statuses != all {
		t.Errorf("core has not all %d statuses", all)
	}
	if ratio > drainSlower {
		t.Error("the poller is slower than core takes reports")
	}
}

// drainTime is what was delivered and how long that took, from the first report at core to the last.
type drainTime struct {
	statuses int
	took     time.Duration
}

func (d drainTime) String() string {
	return fmt.Sprintf("%6.2f s, %7.0f statuses/s", d.took.Seconds(), float64(d.statuses)/d.took.Seconds())
}

// cycleReports are what a cycle of 2,000 agents with 5 checks makes.
func cycleReports(t *testing.T) [][]byte {
	t.Helper()
	agents := make([]*check.Agent, fleetSize)
	for i := range agents {
		agents[i] = &check.Agent{Name: agentName(i), Address: "127.0.0.1:50051"}
		for j := range checksEach {
			agents[i].Checks = append(agents[i].Checks, check.Check{Name: checkName(j), Type: "port", Details: "127.0.0.1:22"})
		}
	}
	const maxMessage, maxReport = 3 << 20, 64 << 20 // the defaults
	id := wire.Identity{PollerID: "p", Partition: "default", SourceIP: "127.0.0.1", MaxMessage: maxMessage, MaxReport: maxReport}
	if err := id.Prepare(agents); err != nil {
		t.Fatal(err)
	}
	var statuses []check.Status
	for i := range agents {
		for j := range agents[i].Checks {
			statuses = append(statuses, check.Status{
				Agent: agents[i], Check: &agents[i].Checks[j], Available: true, ResponseTime: 95382,
				Message: []byte(`{"host":"127.0.0.1","response_time":95382}`),
			})
		}
	}
	reports, err := id.Reports(time.Now(), statuses)
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	for _, r := range reports {
		bodies = append(bodies, r.Body)
	}
	return bodies
}

// fill makes the spool of a poller that has stopped, and returns how large it is.
func fill(t *testing.T, dir string, reports [][]byte, cycles int) (size int64) {
	t.Helper()
	d, err := spool.Open(dir, spool.Config{MaxBytes: 1 << 30, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range cycles * len(reports) {
		_, dropped, err := d.Append(fmt.Sprintf("p/0/%d", i), time.Now(), reports[i%len(reports)], nil)
		if err != nil || len(dropped) > 0 {
			t.Fatalf("append: dropped %q, %v", dropped, err)
		}
	}
	_, size = d.Kept()
	took := time.Since(began)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("filled with %.0f MB in %.2f s", float64(size)/1e6, took.Seconds())
	return size
}

// opening tells how long it takes to open the spool, beside the mere reading of its files. The kernel has
// them in memory both times.
func opening(t *testing.T, dir string, size int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	began := time.Now()
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	read := time.Since(began)
	began = time.Now()
	d, err := spool.Open(dir, spool.Config{MaxBytes: 1 << 30, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	opened := time.Since(began)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	perGB := 1e9 / float64(size)
	t.Logf("to open it, which reads and checks all: %.2f s/GB; merely to read its %d files: %.2f s/GB", opened.Seconds()*perGB, len(files), read.Seconds()*perGB)
}

// drainCore is a core that tells when it has so many reports.
type drainCore struct {
	sim.Core
	want int
	full chan struct{}

	mu          sync.Mutex
	first, last time.Time
	reports     int
	statuses    int
}

func newDrainCore(want int) *drainCore {
	c := &drainCore{want: want, full: make(chan struct{})}
	c.Discard, c.OnDelivery = true, c.deliver
	return c
}

func (c *drainCore) deliver(d sim.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Registration() {
		c.first = d.At // reports come after it
		return
	}
	c.reports++
	c.statuses += len(d.Services)
	c.last = d.At
	if c.reports == c.want {
		close(c.full)
	}
}

func (c *drainCore) arrived() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reports
}

// wait calls meanwhile again and again until core has all.
func (c *drainCore) wait(t *testing.T, meanwhile func(reports int)) drainTime {
	t.Helper()
	tick, deadline := time.NewTicker(50*time.Millisecond), time.After(5*time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-c.full:
			c.mu.Lock()
			defer c.mu.Unlock()
			return drainTime{statuses: c.statuses, took: c.last.Sub(c.first)}
		case <-tick.C:
			meanwhile(c.arrived())
		case <-deadline:
			t.Fatalf("core has %d of %d reports: %+v", c.arrived(), c.want, c.Stats())
		}
	}
}

// drainPoller starts the poller with core away, lets core come back when it has opened the spool, and wants
// its memory not to grow with what it delivers.
func drainPoller(t *testing.T, dir string, want int) drainTime {
	t.Helper()
	core := newDrainCore(want)
	server, err := core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	address := server.Addr()
	server.Stop()
	file := configFile(t, "poller_id = \"p\"\nstate_dir = %q\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\n"+
		"poll.interval = \"1h\"\nspool.max_age = \"2h\"\n", dir, address)
	pid, log, stop := startQuietly(t, file)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(tail(log), "core did not take a report"); {
		if time.Now().After(deadline) {
			t.Fatal("the poller has not tried to deliver")
		}
		<-time.After(10 * time.Millisecond)
	}
	before := usageOf(t, pid)
	forgetPeak(t, pid)
	if server, err = core.Start(address, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	var halfway, end usage
	took := core.wait(t, func(reports int) {
		end = usageOf(t, pid)
		if reports <= want/2 {
			halfway = end
		}
	})
	end = usageOf(t, pid)
	t.Logf("RSS MB of the poller: %.0f with core away (%.0f at most while it opened the spool), then at most %.0f in the first half and %.0f in all (to be at most %d more than before), %.0f at the end; CPU %.2f s",
		before.rss, before.peak, halfway.peak, end.peak, drainMemory, end.rss, (end.cpu - before.cpu).Seconds())
	stop()
	if v := core.Violations(); len(v) > 0 || core.Stats().Dropped > 0 {
		t.Errorf("core: %+v, violations %q", core.Stats(), v)
	}
	if grown := end.peak - before.rss; grown > drainMemory {
		t.Errorf("the poller grew by %.0f MB while it drained", grown)
	}
	if files, _ := filepath.Glob(filepath.Join(daemon.SpoolDirectory(dir), "*.seg")); len(files) > 1 {
		t.Errorf("%d segments are left of what core has", len(files))
	}
	return took
}

// forgetPeak lets a process's peak RSS begin anew.
func forgetPeak(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// drainBare delivers the same with nothing but gRPC: bytes as they are, one call in flight.
func drainBare(t *testing.T, reports [][]byte, cycles int) drainTime {
	t.Helper()
	core := newDrainCore(cycles * len(reports))
	server, err := core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///"+server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	registration, err := monitoring.NewPollerServiceClient(conn).StreamStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := registration.Send(&monitoring.PollerStatusChunk{PollerId: "p", Partition: "default", SourceIp: "127.0.0.1", TotalChunks: 1, IsFinal: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := registration.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	for i := range cycles * len(reports) {
		ctx := metadata.AppendToOutgoingContext(context.Background(), wire.ReportIDKey, fmt.Sprintf("p/0/%d", i))
		if err := conn.Invoke(ctx, monitoring.PollerService_ReportStatus_FullMethodName, reports[i%len(reports)], new(any), grpc.ForceCodecV2(bareCodec{})); err != nil {
			t.Fatal(err)
		}
	}
	return core.wait(t, func(int) {})
}

// bareCodec sends bytes as they are, and does not look at the answer.
type bareCodec struct{}

func (bareCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bareCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

func (bareCodec) Name() string { return "proto" }
