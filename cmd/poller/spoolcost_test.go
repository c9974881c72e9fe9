//go:build spoolcost && linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

var (
	pairs      = flag.Int("pairs", enoughPairs, "how many pairs TestSpoolCost compares")
	pairCycles = flag.Int("paircycles", 5, "how many cycles of each pair TestSpoolCost measures, beside the first")
)

// What the spool on disk may cost over the one in memory, by the median of the pairs: in parts of the CPU, and
// until core has a cycle's reports. With fewer pairs a single bad moment of the machine decides, so that the
// bound for the CPU is wider then, more pairs are measured while it is not met, up to enough, and there is no bound for the
// time, which is only printed.
const (
	enoughPairs         = 5
	dearer, dearerIfFew = 1.15, 1.4
	laterMost           = 20 * time.Millisecond
)

// TestSpoolCost runs two pollers as they are shipped at the same time, each with 2,000 agents of its own: one
// keeps its reports in memory, the other on disk. At the same time, because what the machine has to give
// differs from one minute to the next by more than what is to be shown; but half an interval apart, so that
// neither is in the way of the other's reports. Which one goes first alternates. Core and the checkers live here.
func TestSpoolCost(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	dir := onDisk(t)
	var all []pair
	short := *pairs < enoughPairs
	for i := 0; i < *pairs || short && i == len(all) && i < enoughPairs && dear(all); i++ {
		t.Run(fmt.Sprintf("pair %d", i+1), func(t *testing.T) {
			state := filepath.Join(dir, fmt.Sprint(i))
			if err := os.Mkdir(state, 0o700); err != nil {
				t.Fatal(err)
			}
			all = append(all, measurePair(t, state, i%2 == 0))
		})
	}
	if len(all) < *pairs || *pairs == 0 || t.Failed() {
		t.Fatal("nothing to compare")
	}
	t.Logf("%d agents × %d checks every %v, twice at the same time; %d pairs of %d measured cycles\n%s",
		fleetSize, checksEach, interval, len(all), *pairCycles, pairTable(all))
	ratio, later := dearerIfFew, time.Duration(math.MaxInt64)
	if !short {
		ratio, later = dearer, laterMost
	}
	t.Logf("to be at most: %v times the CPU and %v later at core in the 99th percentile; with fewer than %d pairs, %v times the CPU", dearer, laterMost, enoughPairs, dearerIfFew)
	if got := middleOf(all, pair.cpuRatio); got > ratio {
		t.Errorf("with the spool on disk a check takes %.3f times the CPU", got)
	}
	if got := middleOf(all, func(p pair) float64 { return p.later(.99) }); got > ms(later) {
		t.Errorf("with the spool on disk core has a cycle %.1f ms later, in the 99th percentile", got)
	}
}

// dear tells whether the spool on disk seems to cost more CPU than it may by a few pairs.
func dear(few []pair) bool { return len(few) > 0 && middleOf(few, pair.cpuRatio) > dearerIfFew }

// pair is what came of two pollers that ran at the same time.
type pair struct {
	memory, disk outcome
	diskFirst    bool
	late         time.Duration // the 99th percentile of how late the test's own timers were
	// bare is how long the disk takes for a write and a sync of as much as a cycle has, in order: what nobody can
	// do without, and what other users of the disk do to everybody.
	bare []time.Duration
}

// outcome is what came of the measured cycles of one poller.
type outcome struct {
	cpu       float64 // ms for 1,000 checks
	rss, peak float64 // MB: the median of the quiet moments, and the most since the start
	// delivery is how long after a cycle was closed core had all of its reports, in order. The
	// log's times are to the millisecond.
	delivery []time.Duration
	reports  int // of a cycle
}

func (p pair) cpuRatio() float64 { return p.disk.cpu / p.memory.cpu }

func (p pair) later(part float64) float64 {
	return ms(nearest(p.disk.delivery, part) - nearest(p.memory.delivery, part))
}

// side is one of the two pollers.
type side struct {
	core   *sim.Core
	seen   cyclesAtCore
	pid    int
	log    string
	stop   func()
	began  time.Time
	usages []usage
}

func measurePair(t *testing.T, dir string, diskFirst bool) pair {
	t.Helper()
	dirs := []string{"memory", dir}
	if diskFirst {
		slices.Reverse(dirs)
	}
	lateness := timers(t)
	bare, err := os.Create(filepath.Join(dir, "bare"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bare.Close() }()
	p := pair{diskFirst: diskFirst}
	sides := []*side{startSide(t, dirs[0])}
	<-time.After(time.Until(sides[0].began.Add(interval / 2)))
	sides = append(sides, startSide(t, dirs[1]))
	for cycle := range *pairCycles + 1 {
		for _, s := range sides {
			<-time.After(time.Until(s.began.Add(time.Duration(cycle)*interval + quiet)))
			s.usages = append(s.usages, usageOf(t, s.pid))
			p.bare = append(p.bare, writeAndSync(t, bare)) // nothing is being delivered now
			if cycle == *pairCycles {
				s.stop()
			}
		}
	}
	slices.Sort(p.bare)
	p.memory, p.disk, p.late = sides[0].outcome(t), sides[1].outcome(t), quantile(lateness(), .99)
	if diskFirst {
		p.memory, p.disk = p.disk, p.memory
	}
	return p
}

func writeAndSync(t *testing.T, file *os.File) time.Duration {
	t.Helper()
	const aCycle = 4_000_000
	began := time.Now()
	if _, err := file.Write(make([]byte, aCycle)); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// startSide starts a poller, with agents and core of its own, and returns when its first cycle has begun.
func startSide(t *testing.T, stateDir string) *side {
	t.Helper()
	first, asked := make(chan time.Time, 1), sim.OK()
	answer, once := asked.Answer, sync.Once{}
	asked.Answer = func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		once.Do(func() { first <- time.Now() })
		return answer(ctx, r)
	}
	s := new(side)
	s.core = &sim.Core{Discard: true, OnDelivery: s.seen.deliver}
	server, err := s.core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s.pid, s.log, s.stop = startQuietly(t, configFile(t, "%s", sideConfig(stateDir, server.Addr(), checker(t, asked))))
	select {
	case s.began = <-first:
	case <-time.After(interval):
		t.Fatal("no checker was asked")
	}
	return s
}

func sideConfig(stateDir, core, checker string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "poller_id = \"p\"\nstate_dir = %q\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\n"+
		"poll.interval = %q\nlog.level = \"debug\"\n", stateDir, core, interval)
	for i := range fleetSize {
		fmt.Fprintf(&b, "[agents.%s]\naddress = %q\n", agentName(i), checker)
		for j := range checksEach {
			fmt.Fprintf(&b, "[[agents.%s.checks]]\nname = %q\ntype = \"port\"\ndetails = %q\n", agentName(i), checkName(j), checker)
		}
	}
	return b.String()
}

// cyclesAtCore is what core has of each cycle, by its time.
type cyclesAtCore struct {
	mu     sync.Mutex
	cycles map[int64]arrivals
}

type arrivals struct {
	reports, statuses int
	last              time.Time
}

func (a *cyclesAtCore) deliver(d sim.Delivery) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cycles == nil {
		a.cycles = make(map[int64]arrivals)
	}
	if !d.Registration() {
		c := a.cycles[d.Timestamp]
		a.cycles[d.Timestamp] = arrivals{c.reports + 1, c.statuses + len(d.Services), d.At}
	}
}

// outcome wants all statuses of all cycles to have come, and returns what the cycles but the first came to.
func (s *side) outcome(t *testing.T) outcome {
	t.Helper()
	if v := s.core.Violations(); len(v) > 0 || s.core.Stats().Dropped > 0 {
		t.Errorf("core: %+v, violations %q", s.core.Stats(), v)
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	closed := closings(t, s.log)
	times := slices.Sorted(maps.Keys(s.seen.cycles))
	if want := *pairCycles + 1; len(times) != want || len(closed) != want {
		t.Fatalf("%d cycles were closed and %d came to core, want %d", len(closed), len(times), want)
	}
	var o outcome
	for i, at := range times {
		c := s.seen.cycles[at]
		if want := fleetSize * checksEach; c.statuses != want {
			t.Errorf("cycle %d has %d statuses at core, want %d", i, c.statuses, want)
		}
		if i > 0 {
			o.reports = c.reports
			o.delivery = append(o.delivery, c.last.Sub(closed[i]))
		}
	}
	slices.Sort(o.delivery)
	first, last := s.usages[0], s.usages[*pairCycles]
	o.cpu = ms(last.cpu-first.cpu) / float64(*pairCycles*fleetSize*checksEach/1000)
	var rss []float64
	for _, u := range s.usages[1:] {
		rss = append(rss, u.rss)
	}
	o.rss, o.peak = middle(rss), last.peak
	return o
}

// closings are the times at which a poller closed its cycles, by its log.
func closings(t *testing.T, log string) (at []time.Time) {
	t.Helper()
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var line struct {
			Time    time.Time
			Message string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v in the log's line %s", err, lines.Bytes())
		}
		if line.Message == "cycle closed" {
			at = append(at, line.Time)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return at
}

func pairTable(all []pair) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "CPU ms per 1,000 checks\t\t\t\tclosed → at core, ms\tp50\t\tp99\t\t\tbare sync\t\tRSS MB\t\tpeak\t\ttimers\t\n"+
		"\tmemory\tdisk\tratio\t\tmemory\tdisk\tmemory\tdisk\tlater\tp50\tp99\tmemory\tdisk\tmemory\tdisk\tlate, p99\t")
	line := func(name string, of func(func(pair) float64) float64) {
		_, _ = fmt.Fprintf(w, "%s\t", name)
		for _, column := range []struct {
			format string
			of     func(pair) float64
		}{
			{"%.2f\t", func(p pair) float64 { return p.memory.cpu }},
			{"%.2f\t", func(p pair) float64 { return p.disk.cpu }},
			{"%.3f\t\t", pair.cpuRatio},
			{"%.0f\t", func(p pair) float64 { return ms(nearest(p.memory.delivery, .5)) }},
			{"%.0f\t", func(p pair) float64 { return ms(nearest(p.disk.delivery, .5)) }},
			{"%.0f\t", func(p pair) float64 { return ms(nearest(p.memory.delivery, .99)) }},
			{"%.0f\t", func(p pair) float64 { return ms(nearest(p.disk.delivery, .99)) }},
			{"%+.0f\t", func(p pair) float64 { return p.later(.99) }},
			{"%.0f\t", func(p pair) float64 { return ms(nearest(p.bare, .5)) }},
			{"%.0f\t", func(p pair) float64 { return ms(nearest(p.bare, .99)) }},
			{"%.0f\t", func(p pair) float64 { return p.memory.rss }},
			{"%.0f\t", func(p pair) float64 { return p.disk.rss }},
			{"%.0f\t", func(p pair) float64 { return p.memory.peak }},
			{"%.0f\t", func(p pair) float64 { return p.disk.peak }},
			{"%.1f\t\n", func(p pair) float64 { return ms(p.late) }},
		} {
			_, _ = fmt.Fprintf(w, column.format, of(column.of))
		}
	}
	for _, p := range all {
		first := "memory first"
		if p.diskFirst {
			first = "disk first"
		}
		line(first, func(of func(pair) float64) float64 { return of(p) })
	}
	line("median", func(of func(pair) float64) float64 { return middleOf(all, of) })
	_ = w.Flush()
	var memory, disk []time.Duration
	for _, p := range all {
		memory, disk = append(memory, p.memory.delivery...), append(disk, p.disk.delivery...)
	}
	slices.Sort(memory)
	slices.Sort(disk)
	b.WriteString("CPU is that of the poller's process, the kernel's for it included, but not what the kernel does beside it to write files.\n" +
		"Bare sync is a write and a sync of as many bytes as a cycle has, by the test, in the same minute on the same disk.\n")
	fmt.Fprintf(&b, "closed → at core, all %d cycles of each, ms: memory p50 %.0f, p99 %.0f, max %.0f; disk p50 %.0f, p99 %.0f, max %.0f; %d reports a cycle",
		len(disk), ms(nearest(memory, .5)), ms(nearest(memory, .99)), ms(nearest(memory, 1)),
		ms(nearest(disk, .5)), ms(nearest(disk, .99)), ms(nearest(disk, 1)), all[0].disk.reports)
	return b.String()
}

// nearest is the quantile of a sorted list by the nearest rank: of few values the 99th percentile is the greatest.
func nearest(sorted []time.Duration, part float64) time.Duration {
	return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)]
}

func middleOf(all []pair, of func(pair) float64) float64 {
	var values []float64
	for _, p := range all {
		values = append(values, of(p))
	}
	return middle(values)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// onDisk returns a directory that is on a disk: a file system in memory would cost nothing.
func onDisk(t *testing.T) string {
	t.Helper()
	for _, parent := range []string{os.TempDir(), "."} {
		var fs unix.Statfs_t
		if err := unix.Statfs(parent, &fs); err != nil {
			t.Fatal(err)
		}
		if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(parent, "spool") //nolint:usetesting // t.TempDir may be in memory
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if dir, err = filepath.Abs(dir); err != nil {
			t.Fatal(err)
		}
		t.Logf("the spool is in %s, on a file system of type %#x", dir, fs.Type)
		return dir
	}
	t.Fatal("there is no directory on a disk: set TMPDIR to one")
	return ""
}
