package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/proto/monitoring"
)

// onDisk is the configuration of a poller with its state in a directory.
func onDisk(dir string, more string) string {
	return fmt.Sprintf("poller_id = \"p\"\nstate_dir = %q\nsource_ip = \"127.0.0.1\"\ncore = { addresses = [%q], timeout = \"3s\", max_message = \"400KiB\" }\n"+
		"poll = { interval = \"5s\", timeout = \"1s\" }\n%s", dir, coreAddress, more)
}

// TestRestartsWithCoreAway: three pollers one after the other, core away all the time: when it is back it
// gets every cycle, in order, each with its own time.
func TestRestartsWithCoreAway(t *testing.T) {
	run(t, func(w *world) {
		dir := t.TempDir()
		w.checker("127.2.0.1:1", named(10))
		core := w.coreHost()
		defer core.Stop()
		w.setFault(core, sim.Fault{Kind: sim.KindDown})
		for range 3 {
			w.startWith(onDisk(dir, agents("a", 10, 2, "127.2.0.1:1")))
			w.pass(14 * time.Second) // three cycles, and the fourth begins a second later
			began := time.Now()
			w.stop()
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the stop took %v, with core away and nothing to lose", took)
			}
			w.pass(time.Second)
		}
		if n := len(w.core.Deliveries()); n != 0 {
			t.Fatalf("core has %d reports already", n)
		}
		w.setFault(core, sim.Fault{})
		w.startWith(onDisk(dir, agents("a", 10, 2, "127.2.0.1:1")))
		w.pass(4 * time.Second)
		w.stop()
		reports := w.wantCycles(10, 10, 2)
		boots := make(map[string]bool)
		for _, r := range reports {
			boots[strings.Split(r.ID, "/")[1]] = true
		}
		if len(boots) != 4 {
			t.Errorf("the ids of four processes begin with %v", boots)
		}
		if lost := witnessed[actors.ReportDropped](w); len(lost) > 0 {
			t.Errorf("told as lost: %+v", lost)
		}
	})
}

// TestResultsGoOnAfterARestart: results are asked for from where the last process stood.
func TestResultsGoOnAfterARestart(t *testing.T) {
	run(t, func(w *world) {
		var mu sync.Mutex
		var asked []string
		w.checker("127.2.0.1:1", sim.Behaviour{Results: func(_ context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, r.GetLastSequence())
			return &monitoring.ResultsResponse{Available: true, Data: []byte(`{"n":1}`), HasNewData: true, CurrentSequence: fmt.Sprint(len(asked))}, nil
		}})
		dir := t.TempDir()
		const check = "[agents.a]\naddress = \"127.2.0.1:1\"\n[[agents.a.checks]]\nname = \"r\"\ntype = \"snmp\"\nresults_interval = \"5s\"\n"
		for range 2 {
			w.startWith(onDisk(dir, check))
			w.pass(12 * time.Second)
			w.stop()
			w.pass(time.Second)
		}
		w.startWith(onDisk(dir, strings.ReplaceAll(check, "name = \"r\"", "name = \"other\"")))
		w.stop()
		w.startWith(onDisk(dir, check))
		w.pass(time.Second)
		w.stop()
		mu.Lock()
		defer mu.Unlock()
		want := []string{"", "1", "2", "3", "4", "5", "", ""} // what is not configured any more is forgotten
		if !slices.Equal(asked, want) {
			t.Errorf("asked from %q, want %q", asked, want)
		}
	})
}

// TestSetAsideOnDisk: what core refuses for good is there to be looked at, and all else goes on.
func TestSetAsideOnDisk(t *testing.T) {
	run(t, func(w *world) {
		w.log = new(bytes.Buffer)
		dir := t.TempDir()
		w.checker("127.2.0.1:1", named(10))
		w.core.SetFault(sim.CoreFault{Code: codes.InvalidArgument, Text: "no such partition", Times: 1})
		w.startWith(onDisk(dir, agents("a", 1, 2, "127.2.0.1:1")))
		w.pass(14 * time.Second)
		if ready, detail := w.ready("queue"); !ready || !strings.Contains(detail, "set aside since the start, because core refuses them for good: 1") {
			t.Errorf("ready %v, the queue's detail %q", ready, detail)
		}
		w.stop()
		if n := len(w.reports()); n != 2 {
			t.Errorf("%d reports at core, want 2", n)
		}
		var entries []spool.Entry
		if err := spool.Look(daemon.SpoolDirectory(dir), func(e spool.Entry) error { entries = append(entries, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 || entries[0].Kind != spool.Aside || !strings.Contains(entries[0].Reason, "no such partition") || len(entries[0].Body) == 0 {
			t.Errorf("in the spool: %+v", entries)
		}
		for _, want := range []string{"it is set aside: see `poller spool ls`", `"spool":"` + daemon.SpoolDirectory(dir) + `"`, "nothing is left to deliver"} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, w.log)
			}
		}
	})
}

// TestDamageIsTold: a poller starts with a damaged spool, says what is lost, and delivers the rest.
func TestDamageIsTold(t *testing.T) {
	run(t, func(w *world) {
		dir := t.TempDir()
		w.checker("127.2.0.1:1", named(10))
		core := w.coreHost()
		defer core.Stop()
		w.setFault(core, sim.Fault{Kind: sim.KindDown})
		w.startWith(onDisk(dir, agents("a", 1, 1, "127.2.0.1:1")))
		w.pass(14 * time.Second)
		w.stop()
		segments, _ := filepath.Glob(filepath.Join(daemon.SpoolDirectory(dir), "*.seg"))
		if len(segments) != 1 {
			t.Fatalf("segments: %q", segments)
		}
		content, err := os.ReadFile(segments[0])
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1 // of the second of three
		if err := os.WriteFile(segments[0], content, 0o600); err != nil {
			t.Fatal(err)
		}
		w.log = new(bytes.Buffer)
		w.setFault(core, sim.Fault{})
		w.startWith(onDisk(dir, agents("a", 1, 1, "127.2.0.1:1")))
		if ready, detail := w.ready("queue"); ready || !strings.Contains(detail, "damaged in the spool, and set aside: 1") ||
			!strings.Contains(detail, "reports lost since the start: 1, the last at ") {
			t.Errorf("ready %v, the queue's detail %q", ready, detail)
		}
		w.pass(4 * time.Second)
		if ready, detail := w.ready("queue"); !ready {
			t.Errorf("not ready when all is delivered: %q", detail)
		}
		w.stop()
		if n := len(w.reports()); n != 3 {
			t.Errorf("%d reports at core, want two of before and a new one", n)
		}
		for _, want := range []string{`"file":"`, `checksum of report number 2 is wrong`, `"reports":1,"cause":"damaged or missing when the spool was opened"`} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, w.log)
			}
		}
	})
}

// TestOutageBeyondTheBounds: of an outage that is longer than the spool has room for, exactly the promised
// end is kept, and each report that is missing was told as dropped.
func TestOutageBeyondTheBounds(t *testing.T) {
	for _, whenFull := range []string{config.DropOldest, config.DropNewest} {
		t.Run(whenFull, func(t *testing.T) {
			run(t, func(w *world) {
				const cycles = 120
				dir := t.TempDir()
				w.checker("127.2.0.1:1", sim.Text(strings.Repeat("x", 16<<10)))
				core := w.coreHost()
				defer core.Stop()
				w.setFault(core, sim.Fault{Kind: sim.KindDown})
				w.log = new(bytes.Buffer)
				w.startWith(onDisk(dir, agents("a", 1, 1, "127.2.0.1:1")+
					fmt.Sprintf("[spool]\nmax_bytes = \"1MiB\"\nwhen_full = %q\n", whenFull)))
				began := time.Now().Unix()
				w.pass(cycles*5*time.Second - time.Second)
				kept, size := w.daemon.Kept()
				if segment := int64(64 << 10); size > 1<<20 || size < 1<<20-segment-17<<10 {
					t.Errorf("%d bytes are kept", size)
				}
				w.setFault(core, sim.Fault{})
				w.pass(11 * time.Second)
				w.stop()
				var numbers []int64
				for _, r := range w.reports() {
					numbers = append(numbers, (r.Timestamp-began)/5)
				}
				dropped := len(witnessed[actors.ReportDropped](w))
				if lines, want := strings.Count(w.log.String(), "report dropped"), bits.Len(uint(dropped)); lines != want {
					t.Errorf("%d lines tell of dropped reports, want %d", lines, want)
				}
				if want := promised(whenFull, kept, dropped, cycles+3); !slices.Equal(numbers, want) {
					t.Errorf("core has cycles %v, want %v", numbers, want)
				}
				t.Logf("of %d cycles %d were kept, in %d bytes; in all %d reports are at core, and %d were told as dropped", cycles, kept, size, len(numbers), dropped)
			})
		})
	}
}

// promised are the cycles that are to be at core, if of so many some were dropped: those behind the first,
// which is on its way all the time, or those behind what was kept.
func promised(whenFull string, kept, dropped int, cycles int64) (numbers []int64) {
	hole := int64(1)
	if whenFull == config.DropNewest {
		hole = int64(kept)
	}
	for i := range cycles {
		if i < hole || i >= hole+int64(dropped) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// TestSecondPoller: a second one on the same directory does not start, and says who is there.
func TestSecondPoller(t *testing.T) {
	run(t, func(w *world) {
		dir := t.TempDir()
		w.startWith(onDisk(dir, ""))
		cfg, _, err := config.Parse("test.toml", []byte("admin.listen = \"\"\n"+onDisk(dir, "")), config.Source{})
		if err != nil {
			t.Fatal(err)
		}
		second := daemon.New(daemon.Options{Config: cfg, Log: w.logger()})
		err = second.Start(t.Context())
		want := fmt.Sprintf("the spool in %s is in use by the process with pid %d: stop that first, or give this one another state_dir", daemon.SpoolDirectory(dir), os.Getpid())
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	})
}
