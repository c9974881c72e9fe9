//go:build !race

package wire

import (
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// An answer costs nothing, because it stands where it came from until it is written into the report; a failure costs its
// words. What a cycle makes for all of its statuses does not grow with them. (Under the race detector everything may
// allocate.)
func TestAnAnswerAllocatesNothing(t *testing.T) {
	id, statuses := typical(t, 1000)
	failed := statuses[0]
	failed.Available, failed.Message = false, nil
	failed.Reason, failed.Detail = check.Timeout, "connected to 127.2.0.1:50051, but no answer within 5s"
	var scratch []byte
	for _, tt := range []struct {
		what string
		st   *check.Status
		want float64
	}{{"an answer", &statuses[0], 0}, {"a failure", &failed, 1}} {
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := id.item(tt.st, &scratch); err != nil {
				t.Fatal(err)
			}
		}); n != tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.what, n, tt.want)
		}
	}
	const others = 30 // lists, the heading, and the report
	if n := testing.AllocsPerRun(10, func() {
		if _, err := id.Reports(time.Unix(1000, 0), statuses); err != nil {
			t.Fatal(err)
		}
	}); n > others {
		t.Errorf("%v allocations for a cycle of %d statuses, want at most %d", n, len(statuses), others)
	}
}
