package spool

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestBoundsTogether changes the bounds while reports come and go, and accounts for every report.
func TestBoundsTogether(t *testing.T) {
	t.Parallel()
	wide, narrow := Config{MaxBytes: 64 << 10, MaxAge: time.Hour}, Config{MaxBytes: 1000, MaxAge: time.Hour}
	newest := narrow
	newest.DropNewest = true
	disk, err := Open(filepath.Join(t.TempDir(), "spool"), wide)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	for name, q := range map[string]interface {
		SetBounds(cfg Config)
		Append(id string, at time.Time, body []byte, state map[string]string) (tooOld, noRoom []string, err error)
		Next() (id string, body []byte, ok bool, err error)
		Ack(id string)
		Kept() (reports int, bytes int64)
	}{"disk": disk, "memory": NewMemory(wide)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const reports = 300
			dropped, delivered := 0, 0
			var work sync.WaitGroup
			change := func(n int) { q.SetBounds([]Config{wide, narrow, newest}[n%3]) }
			work.Go(func() {
				for n := range reports {
					change(n)
					id := fmt.Sprint("r", n)
					tooOld, noRoom, err := q.Append(id, start, body(id, n), nil)
					if err != nil {
						t.Error(err)
					}
					dropped += len(tooOld) + len(noRoom)
				}
			})
			work.Go(func() {
				for n := range reports {
					change(n)
					id, _, ok, err := q.Next()
					if err != nil {
						t.Error(err)
					}
					if ok {
						q.Ack(id)
						delivered++
					}
				}
			})
			work.Wait()
			if kept, _ := q.Kept(); kept+dropped+delivered != reports {
				t.Errorf("%d kept, %d dropped, %d delivered; %d were appended", kept, dropped, delivered, reports)
			}
		})
	}
}
