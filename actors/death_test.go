package actors_test

import (
	"testing"
	"time"
)

// An orphan is run at once, or in its next turn if that is near: so it is not run twice in a short time, nor late after that.
func TestClusterOrphansWait(t *testing.T) {
	runFleet(t, 200, func(f *fleet) {
		f.start("a")
		f.start("b")
		f.start("c")
		waited, atOnce := 0, 0
		for _, later := range []time.Duration{0, 300 * time.Millisecond, 600 * time.Millisecond} { // all of them have their turns near each other
			time.Sleep(12*time.Second + later)
			at := time.Now()
			f.nodes["b"].kill()
			time.Sleep(8 * time.Second)
			for name, runs := range f.since(at.Add(-1200 * time.Millisecond)) {
				orphan := len(runs)
				for i, r := range runs {
					if r.node == "b" {
						orphan = i + 1
					} else if i > orphan && (r.at.Sub(runs[i-1].at) < 600*time.Millisecond || r.at.Sub(runs[i-1].at) > aTouch) {
						t.Errorf("%s was an orphan, and is run %v after the run before it", name, r.at.Sub(runs[i-1].at))
					}
				}
				if orphan == len(runs) {
					continue
				}
				switch gap := runs[orphan].at.Sub(runs[orphan-1].at); {
				case gap > 3*time.Second+100*time.Millisecond:
					t.Errorf("%s was not run for %v", name, gap)
				case gap.Round(10*time.Millisecond)%time.Second == 0:
					waited++
				default:
					atOnce++
				}
			}
			f.start("b")
		}
		time.Sleep(3 * time.Second)
		if waited < 20 || atOnce < 20 {
			t.Errorf("%d orphans waited for their turns, and %d were run at once; want some of both", waited, atOnce)
		}
	})
}
