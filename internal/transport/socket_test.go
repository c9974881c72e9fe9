package transport

import (
	"testing"
	"time"
)

func TestVigil(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		within time.Duration
		want   vigil
	}{
		{time.Second, vigil{2 * time.Second, time.Second, 2, 3500 * time.Millisecond}},
		{4 * time.Second, vigil{2 * time.Second, time.Second, 2, 3500 * time.Millisecond}},
		{10 * time.Second, vigil{4 * time.Second, time.Second, 5, 8500 * time.Millisecond}},
		{30 * time.Second, vigil{13 * time.Second, 4 * time.Second, 3, 23 * time.Second}},
		{time.Minute, vigil{15 * time.Second, 13 * time.Second, 3, 47500 * time.Millisecond}},
		{time.Hour, vigil{15 * time.Second, 13 * time.Second, 3, 47500 * time.Millisecond}},
		{0, vigil{15 * time.Second, 13 * time.Second, 3, 47500 * time.Millisecond}},
	} {
		if got := vigilWithin(tt.within); got != tt.want {
			t.Errorf("within %v: %+v, want %+v", tt.within, got, tt.want)
		}
	}
	for within := time.Second; within <= latest; within += 100 * time.Millisecond {
		v := vigilWithin(within)
		if end := v.idle + time.Duration(v.probes)*v.interval; end > max(within, soonest) {
			t.Errorf("within %v: probes go on for %v: %+v", within, end, v)
		}
		// Linux looks at v.unacked only as it sends a probe.
		found := v.idle + v.interval
		for found < v.unacked {
			found += v.interval
		}
		if found > max(within, soonest) || v.unacked > max(within, soonest) || v.unacked < 3*time.Second {
			t.Errorf("within %v: on Linux found after %v: %+v", within, found, v)
		}
	}
}
