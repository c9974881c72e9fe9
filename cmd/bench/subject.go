package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // the loop's, on loopback
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/sim"
)

// subject is a way to poll that is measured.
type subject struct {
	name   string
	disk   bool // a poller with its spool on disk
	loop   bool // no poller
	atOnce int  // of a loop: how many agents at a time, without slots
}

var (
	inMemory  = subject{name: "poller, memory"}
	onDisk    = subject{name: "poller, disk", disk: true}
	inSlots   = subject{name: "loop in slots", loop: true}
	allAtOnce = subject{name: "loop, all at once", loop: true, atOnce: 64}
)

func subjects() []subject { return append(compared(), allAtOnce) }

// compared are those whose cost is compared.
func compared() []subject { return []subject{inMemory, inSlots, onDisk} }

// programs are the executables, and where runs may put their files.
type programs struct{ dir, poller, self string }

// build makes the poller's executable as it is shipped, in a directory of its own that Close removes.
func build(ctx context.Context) (*programs, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	parent := os.TempDir()
	if inMemoryOnly(parent) { // a spool there would cost nothing
		parent = "."
	}
	dir, err := os.MkdirTemp(parent, "poller-bench-")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	p := &programs{dir: dir, poller: filepath.Join(dir, "poller"), self: self}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", p.poller, "github.com/serviceradar/poller/cmd/poller") //nolint:gosec // our own path
	if out, err := cmd.CombinedOutput(); err != nil {
		p.close()
		return nil, fmt.Errorf("build the poller: %w\n%s", err, out)
	}
	return p, nil
}

func (p *programs) close() { _ = os.RemoveAll(p.dir) } // what stays is the system's to clean up

// process is a subject that runs.
type process struct {
	pid   int
	admin string
	cmd   *exec.Cmd
	said  bytes.Buffer  // to be read when it has ended
	ended chan struct{} // closed then
	err   error         // known then
}

// start starts a subject that polls a world.
func (p *programs) start(ctx context.Context, s subject, w *world, interval time.Duration) (*process, error) {
	dir, err := os.MkdirTemp(p.dir, "run-")
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	state := config.StateMemory
	if s.disk {
		state = dir
	}
	file, err := w.config(dir, state, admin, interval)
	if err != nil {
		return nil, err
	}
	run := &process{admin: admin, ended: make(chan struct{})}
	run.cmd = exec.Command(p.poller, "run", "-c", file) //nolint:noctx,gosec // it is to stop in order, also when our context has ended; the paths are our own
	if s.loop {
		run.cmd = exec.Command(p.self, "loop", "-c", file, "--admin", admin, "--at-once", strconv.Itoa(s.atOnce)) //nolint:noctx,gosec // as above
	}
	run.cmd.Stderr = &run.said
	if os.Getenv("GOMEMLIMIT") == "" {
		run.cmd.Env = append(os.Environ(), "GOMEMLIMIT=off") // the poller alone would find out the cgroup's
	}
	if err := run.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", s.name, err)
	}
	run.pid = run.cmd.Process.Pid
	go func() {
		run.err = run.cmd.Wait()
		close(run.ended)
	}()
	return run, nil
}

// freeAddress returns an address on loopback where nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stop stops the process in order, and returns an error if it ended badly or had something to say.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return errors.New("it did not stop within a minute")
	}
	said := strings.TrimSpace(p.said.String())
	switch {
	case p.err != nil:
		return fmt.Errorf("it ended with %w: %s", p.err, said)
	case said != "":
		return fmt.Errorf("it said: %s", said)
	}
	return nil
}

// get reads one of the process' profiles.
func (p *process) get(ctx context.Context, profile string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/debug/pprof/"+profile, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

// goroutines returns how many there are.
func (p *process) goroutines(ctx context.Context) (int, error) {
	text, err := p.get(ctx, "goroutine?debug=1")
	if err != nil {
		return 0, fmt.Errorf("count goroutines: %w", err)
	}
	var n int
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %d", &n); err != nil {
		return 0, fmt.Errorf("count goroutines: %w", err)
	}
	return n, nil
}

// runLoop is the process of a bare loop.
func runLoop(ctx context.Context, file, admin string, atOnce int) error {
	cfg, _, err := config.Load(config.Source{File: file})
	if err != nil {
		return err
	}
	if admin != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", admin)
		if err != nil {
			return err
		}
		server := &http.Server{ReadHeaderTimeout: 5 * time.Second} // with what net/http/pprof registered
		go func() { _ = server.Serve(l) }()
		defer func() { _ = server.Close() }()
	}
	return sim.RunLoop(ctx, cfg, atOnce)
}
