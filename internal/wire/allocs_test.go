//go:build !race

package wire

import (
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// A status costs its message, in which the answer stands, and what a cycle makes for all of its statuses
// does not grow with them. (Under the race detector everything may allocate.)
func TestOnlyTheMessageIsAllocated(t *testing.T) {
	id, statuses := typical(t, 1000)
	failed := statuses[0]
	failed.Available, failed.Message = false, nil
	failed.Reason, failed.Detail = check.Timeout, "connected to 127.2.0.1:50051, but no answer within 5s"
	for what, st := range map[string]*check.Status{"an answer": &statuses[0], "a failure": &failed} {
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := id.item(st); err != nil {
				t.Fatal(err)
			}
		}); n != 1 {
			t.Errorf("%s: %v allocations, want 1", what, n)
		}
	}
	const others = 20 // lists, the heading, and the report
	if n := testing.AllocsPerRun(10, func() {
		if _, err := id.Reports(time.Unix(1000, 0), statuses); err != nil {
			t.Fatal(err)
		}
	}); n > float64(len(statuses)+others) {
		t.Errorf("%v allocations for a cycle of %d statuses, want at most %d", n, len(statuses), len(statuses)+others)
	}
}
