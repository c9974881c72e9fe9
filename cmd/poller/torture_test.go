//go:build torture && linux

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
)

var (
	kills = flag.Int("kills", 50, "how often TestTorture kills the poller")
	seed  = flag.Uint64("seed", 0, "decides what TestTorture does, and when; 0 draws one")
)

const (
	victims  = 200 // agents
	checksOf = 5   // of each agent, beside the results of one

	opensIn  = 100 * time.Millisecond // about; the poller starts and reads its directory
	shortest = 300 * time.Millisecond // lives that are meant to be longer than that, and the times of core
	longest  = 4 * time.Second
	// waitOfCore is core.timeout, longer than core takes to cut a call off.
	waitOfCore = 3 * time.Second

	refusedIn = 10 * time.Second
	drainsIn  = time.Minute
	endsIn    = 20 * time.Second
)

// TestTorture kills the poller, as it is shipped, again and again at random, and starts it again at once on what
// it left. Core is away about half of the time, and often goes in the middle of a call. What the poller said
// to have taken must be at core in the end, in order, and of what core had acknowledged nothing may come again. The
// seed makes the same lives and the same outages; what they meet is the machine's to say.
func TestTorture(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	tt := newTorture(t)
	t.Logf("-kills=%d -seed=%d", *kills, tt.seed)
	stopOutages := tt.outages.begin(t, tt.seed)
	lives := rand.New(rand.NewPCG(tt.seed, 1))
	for range *kills {
		length := between(lives, shortest, longest)
		if lives.IntN(4) == 0 {
			length = between(lives, 0, opensIn)
		}
		tt.file = tt.files[lives.IntN(len(tt.files))]
		tt.kill(length, lives.IntN(4) == 0)
	}
	stopOutages()
	tt.finish()
	tt.verify()
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// torture is what TestTorture works with.
type torture struct {
	t       *testing.T
	seed    uint64
	began   time.Time
	state   string   // the directory
	files   []string // configurations
	file    string   // that of the next life
	core    sim.Core
	outages outages
	source  source
	lives   []*life
	refused int // pollers that found another in the directory
}

func newTorture(t *testing.T) *torture {
	t.Helper()
	tt := &torture{t: t, seed: *seed, began: time.Now(), state: t.TempDir()}
	for tt.seed == 0 {
		tt.seed = rand.Uint64()
	}
	host, err := tt.core.NewHost(nil, tt.outages.listen)
	if err != nil {
		t.Fatal(err)
	}
	tt.outages.host = host
	t.Cleanup(host.Stop)
	address := checker(t, tt.source.behaviour())
	// With small segments a life may begin several; large ones are written again after a kill. None of it keeps too
	// little for the longest of outages.
	for _, bytes := range []string{"20MiB", "128MiB"} {
		tt.files = append(tt.files, configFile(t, "%s", tt.toml(address, bytes)))
	}
	tt.file = tt.files[0]
	return tt
}

// toml is a configuration. A segment takes a sixteenth of what the spool keeps at most.
func (tt *torture) toml(checker, maxBytes string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "poller_id = \"p\"\nstate_dir = %q\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\n"+
		"core = { addresses = [%q], timeout = %q }\npoll = { interval = \"1s\", timeout = \"900ms\" }\n"+
		"spool.max_bytes = %q\nlog = { level = \"debug\", format = \"json\" }\n",
		tt.state, tt.outages.address, waitOfCore, maxBytes)
	for i := range victims {
		fmt.Fprintf(&b, "[agents.%s]\naddress = %q\n", victim(i), checker)
		for j := range checksOf {
			fmt.Fprintf(&b, "[[agents.%s.checks]]\nname = \"c%d\"\ntype = \"port\"\ndetails = \"127.0.0.1:22\"\n", victim(i), j)
		}
	}
	fmt.Fprintf(&b, "[[agents.%s.checks]]\nname = %q\ntype = \"grpc\"\nresults_interval = \"1s\"\n", victim(victims-1), newsCheck)
	return b.String()
}

func victim(i int) string { return fmt.Sprintf("a%03d", i) }

// life is one process of the poller.
type life struct {
	killed           time.Time // when it got the signal; zero if it was let end
	ended            time.Time
	started          bool     // it said so
	taken, delivered []string // the reports that it said to have
	most             int      // reports that were kept at a time
	idle             bool     // nothing was left to deliver when it spoke last of that
	torn             int      // ends of files that its predecessor was killed at
	wrong            []string // lines that there must not be
}

// start starts the poller. The lines of its log go to read.
func (tt *torture) start() (*life, *running) {
	l := new(life)
	tt.lives = append(tt.lives, l)
	return l, start(tt.t, tt.file)
}

// kill starts the poller and kills it after a while. If there is an intruder, another is started on the same
// directory meanwhile.
func (tt *torture) kill(after time.Duration, intruder bool) {
	tt.t.Helper()
	l, r := tt.start()
	over := time.After(after)
	for alive := true; alive; {
		select {
		case line, ok := <-r.lines:
			if !ok {
				tt.t.Fatalf("life %d ended by itself, with code %d: %q", len(tt.lives), r.end(), l.wrong)
			}
			l.read(line)
			if l.started && intruder {
				intruder = false
				tt.intrude(r.cmd.Process.Pid)
			}
		case <-over:
			alive = false
		}
	}
	l.killed = time.Now()
	if err := r.cmd.Process.Kill(); err != nil {
		tt.t.Errorf("life %d: %v", len(tt.lives), err)
	}
	for line := range r.lines {
		l.read(line)
	}
	if code := r.end(); code != -1 {
		tt.t.Errorf("life %d ended by itself, with code %d", len(tt.lives), code)
	}
	l.ended = time.Now()
}

// intrude starts a second poller on the directory of the one with this pid.
func (tt *torture) intrude(pid int) {
	tt.t.Helper()
	ctx, cancel := context.WithTimeout(tt.t.Context(), refusedIn)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "run", "-c", tt.file)
	out, _ := cmd.CombinedOutput() // the exit code says it
	tt.refused++
	if want := fmt.Sprintf("in use by the process with pid %d:", pid); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), want) {
		tt.t.Errorf("a second poller on the directory ended with %v, without saying that it is %s\n%s", cmd.ProcessState, want, out)
	}
}

// finish lets a last process deliver all there is, and end.
func (tt *torture) finish() {
	tt.t.Helper()
	l, r := tt.start()
	over := time.After(drainsIn)
	signalled := false
	for alive := true; alive; {
		select {
		case line, ok := <-r.lines:
			if alive = ok; !ok {
				continue
			}
			l.read(line)
			if !signalled && l.idle {
				signalled = true
				over = time.After(endsIn)
				r.signal(tt.t)
			}
		case <-over:
			tt.t.Fatalf("the last poller did not end; it had delivered all: %v", signalled)
		}
	}
	l.ended = time.Now()
	if code := r.end(); code != 0 || !signalled {
		tt.t.Errorf("the last poller ended with code %d", code)
	}
}

// mayWarn are the beginnings of the lines, above info, that core's outages make, and a machine that is too slow.
var mayWarn = []string{
	"core did not take a report; it is kept",
	"checks have no verdict", "breaker opened", "too much happened at once", "answer came after its run", "the poller did not run for a while",
}

// read takes a line of the log.
func (l *life) read(line map[string]any) {
	message, _ := line["message"].(string)
	id, _ := line["report"].(string)
	kept, hasKept := line["kept"].(float64)
	l.most = max(l.most, int(kept))
	begins := func(with string) bool { return strings.HasPrefix(message, with) }
	switch level := line["level"]; {
	case message == "poller started":
		l.started = true
		return
	case message == "report taken":
		l.taken = append(l.taken, id)
	case message == "report delivered", message == "core takes reports again":
		l.delivered = append(l.delivered, id)
		l.idle = hasKept && kept == 0
	case begins("the last write to the spool was not finished"):
		l.torn++
	case level == "debug", level == "info", slices.ContainsFunc(mayWarn, begins):
	default:
		l.wrong = append(l.wrong, fmt.Sprint(line))
	}
}

// spoolDirectory is where the reports are.
func (tt *torture) spoolDirectory() string { return daemon.SpoolDirectory(tt.state) }
