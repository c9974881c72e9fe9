package actors

import (
	"testing"
	"time"
)

// Core must never see time go back, whatever the wall clock does.
func TestStamp(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	l := newLedger(nil)
	for _, step := range []struct {
		at, want int
		setBack  time.Duration
	}{
		{100, 100, 0},
		{110, 110, 0},
		{60, 110, 50 * time.Second}, // told once
		{70, 110, 0},
		{109, 110, 0},
		{110, 110, 0}, // caught up
		{120, 120, 0},
		{119, 120, time.Second},
		{7200, 7200, 0}, // forward it goes as it likes
	} {
		got, setBack := l.stamp(at(step.at))
		if got != at(step.want) || setBack != step.setBack {
			t.Errorf("at %d: %d and set back by %v; want %d and %v", step.at, got.Unix(), setBack, step.want, step.setBack)
		}
	}
}
