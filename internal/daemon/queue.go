package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/spool"
)

// queue is the spool, in memory or on disk, and what comes with it.
type queue struct {
	actors.Spool
	disk   *spool.Disk   // nil in memory
	memory *spool.Memory // nil on disk
	dir    string        // empty in memory
	boot   string        // differs from those of all earlier processes
	// state is what the last process left.
	state map[string]string
	// next is the configuration to go by; whoever takes it holds adopting.
	next     atomic.Pointer[config.Config]
	adopting sync.Mutex
	// holding tells what is kept, and waits for no disk.
	holding func() spool.Holding
}

// SpoolDirectory is where in the state directory the spool is.
func SpoolDirectory(stateDir string) string { return filepath.Join(stateDir, "spool") }

func openQueue(cfg *config.Config, stateDir string, synced func(time.Duration), tell func(spool.Event)) (*queue, error) {
	bounds := spoolBounds(cfg)
	bounds.Tell, bounds.Synced = tell, synced
	if stateDir == "" {
		memory := spool.NewMemory(bounds)
		return &queue{Spool: memory, memory: memory, boot: strconv.FormatInt(time.Now().UnixMilli(), 36), holding: memory.Holding}, nil
	}
	dir := SpoolDirectory(stateDir)
	disk, err := spool.Open(dir, bounds)
	if err != nil {
		return nil, err
	}
	disk.Retain(configured(cfg))
	return &queue{Spool: disk, disk: disk, dir: dir, boot: strconv.FormatUint(disk.Boot(), 36), state: disk.State(), holding: disk.Holding}, nil
}

// reconfigure goes by other bounds, and forgets where the results of checks stand that there are no more.
// Nobody waits for it: the disk may not answer.
func (q *queue) reconfigure(cfg *config.Config) {
	if q.next.Swap(cfg) != nil {
		return // somebody is about to take what was there, and takes this
	}
	go func() {
		q.adopting.Lock()
		defer q.adopting.Unlock()
		q.adopt(q.next.Swap(nil))
	}()
}

func (q *queue) adopt(cfg *config.Config) {
	if q.disk != nil {
		q.disk.SetBounds(spoolBounds(cfg))
		q.disk.Retain(configured(cfg))
		return
	}
	q.memory.SetBounds(spoolBounds(cfg))
}

func spoolBounds(cfg *config.Config) spool.Config {
	return spool.Config{MaxBytes: cfg.Spool.MaxBytes, MaxAge: cfg.Spool.MaxAge, DropNewest: cfg.Spool.WhenFull == config.DropNewest}
}

// configured tells whether a key of the state is one of a check that there is.
func configured(cfg *config.Config) func(key string) bool {
	keys := make(map[string]bool)
	for i := range cfg.Agents {
		a := cfg.Agents[i]
		for j := range a.Checks {
			if a.Checks[j].HasResults() {
				keys[actors.StateKey(a.Name, a.Checks[j].Name)] = true
			}
		}
	}
	return func(key string) bool { return keys[key] }
}

// closeTime is what the spool has at least to close.
const closeTime = time.Second

// close gives the directory free; an error says what is lost, or that the disk does not answer before ctx ends,
// or in closeTime.
func (q *queue) close(ctx context.Context) error {
	if q.disk == nil {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < closeTime {
		extended, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		ctx = extended
	}
	closed := make(chan error, 1)
	go func() {
		q.adopting.Lock() // for what still goes on
		defer q.adopting.Unlock()
		closed <- q.disk.Close()
	}()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("close the spool in %s: %w", q.dir, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the spool in %s: %w", q.dir, errors.Join(errors.New("the disk does not answer"), context.Cause(ctx)))
	}
}

// maxReport is the largest report that can be kept for core, in bytes. On disk a report takes a little more
// than its own size.
func maxReport(cfg *config.Config) int {
	if cfg.StateDir == config.StateMemory {
		return int(min(cfg.Spool.MaxBytes, spool.MemoryLimit))
	}
	return int(min(cfg.Spool.MaxBytes-cfg.Spool.MaxBytes/16, spool.MemoryLimit))
}

// rest says what becomes of the reports that core has not taken by the end.
func (q *queue) rest() string {
	if q.disk == nil {
		return "reports that core has not taken by now were kept in memory and are lost"
	}
	return "reports that core has not taken by now are in " + q.dir + ", as far as they could be written, and delivered after the next start"
}
