package check_test

import (
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// A silence is in force from its first moment until before its last; the nearest reason is the one that is told.
func TestSilences(t *testing.T) {
	t.Parallel()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	silence := func(from, to int64, reason string) check.Silence {
		return check.Silence{From: at(from), To: at(to), Reason: reason}
	}
	s := check.Silences{
		"":  {"": {silence(40, 50, "all")}},
		"a": {"": {silence(10, 30, "agent"), silence(20, 45, "agent later")}, "x": {silence(15, 25, "check")}},
	}
	for _, tt := range []struct {
		at           int64
		ax, ay, bx   string
		nothingAtAll bool
	}{
		{at: 9, nothingAtAll: true},
		{at: 10, ax: "agent", ay: "agent"},
		{at: 15, ax: "check", ay: "agent"},
		{at: 24, ax: "check", ay: "agent"},
		{at: 25, ax: "agent", ay: "agent"},
		{at: 30, ax: "agent later", ay: "agent later"},
		{at: 40, ax: "agent later", ay: "agent later", bx: "all"},
		{at: 45, ax: "all", ay: "all", bx: "all"},
		{at: 49, ax: "all", ay: "all", bx: "all"},
		{at: 50, nothingAtAll: true},
	} {
		now := s.InForce(at(tt.at))
		if (now == nil) != tt.nothingAtAll {
			t.Errorf("at %d: %v", tt.at, now)
		}
		if ax, ay, bx := now.Of("a", "x"), now.Of("a", "y"), now.Of("b", "x"); ax != tt.ax || ay != tt.ay || bx != tt.bx {
			t.Errorf("at %d: %q, %q and %q; want %q, %q and %q", tt.at, ax, ay, bx, tt.ax, tt.ay, tt.bx)
		}
	}
}
