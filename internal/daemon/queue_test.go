package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/spool"
)

// TestCloseOfAHungDisk: a stop does not wait for a disk that does not answer.
func TestCloseOfAHungDisk(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{StateDir: t.TempDir(), Spool: config.Spool{MaxBytes: 1 << 20, MaxAge: time.Hour}}
	hung, goOn := make(chan struct{}), make(chan struct{})
	q, err := openQueue(cfg, cfg.StateDir, nil, func(spool.Event) { // while the Disk is locked
		close(hung)
		<-goOn
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, id := range []string{"a", "b"} { // the first goes for the second
			if err := q.SetAside(id, make([]byte, 100<<10), "no"); err != nil {
				t.Error(err)
			}
		}
	}()
	<-hung
	q.reconfigure(cfg) // which is for later
	q.reconfigure(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.close(ctx); err == nil || !strings.HasPrefix(err.Error(), "close the spool in "+SpoolDirectory(cfg.StateDir)+": the disk does not answer") {
		t.Errorf("close: %v", err)
	}
	close(goOn)
	<-done
	if err := q.close(t.Context()); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// TestMaxReport: a report of the size that is promised to be kept is.
func TestMaxReport(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{config.StateMemory, t.TempDir()} {
		cfg := &config.Config{StateDir: dir, Spool: config.Spool{MaxBytes: 1 << 20, MaxAge: time.Hour}}
		stateDir := dir
		if dir == config.StateMemory {
			stateDir = ""
		}
		q, err := openQueue(cfg, stateDir, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		size := maxReport(cfg)
		tooOld, noRoom, err := q.Append("poller/boot/1", time.Now(), make([]byte, size), map[string]string{"agent\x00check": "17"})
		if tooOld != nil || noRoom != nil || err != nil || size < 900<<10 {
			t.Errorf("%s: of %d bytes: %q, %q, %v", dir, size, tooOld, noRoom, err)
		}
		if err := q.close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
