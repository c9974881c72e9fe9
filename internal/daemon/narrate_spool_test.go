package daemon

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
)

// TestSpoolReadiness: what a disk that fails means for readiness, and that it is told, with its end.
func TestSpoolReadiness(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	synctest.Test(t, func(t *testing.T) {
		board, log := new(observe.Board), new(bytes.Buffer)
		n := newNarrator(zerolog.New(log), board, configOf(100))
		n.observe(actors.ReportTaken{Kept: 1})
		for _, step := range []struct {
			name  string
			event spool.Event
			ready bool
			says  string // a detail; empty if there is to be none
			logs  string
		}{
			{"full", spool.Unsafe{Err: full}, false, "reports are kept in memory only, and lost if the poller ends before they can be written: no space left on device", `"level":"error","error":"no space left on device","message":"the spool can't be written`},
			{"not full", spool.SafeAgain{}, true, "", `"level":"info","message":"the spool is written again`},
			{"no position", spool.PositionUnsafe{Err: full}, true, "core would get reports again after a restart: no space left on device", "the read position of the spool can't be saved"},
			{"a position", spool.PositionUnsafe{}, true, "", "is saved again"},
			{"damage", spool.Damaged{File: "f.damaged", Reason: "at byte 7"}, true, "damaged in the spool, and set aside: 1, see `poller spool ls`", `"file":"f.damaged","cause":"at byte 7"`},
			{"damage that could not be copied", spool.Damaged{File: "f.damaged", Reason: "at byte 7", Err: full}, true, "set aside: 2", `"not_kept":"no space left on device"`},
			{"an unfinished write", spool.Unfinished{File: "f.seg", Bytes: 7}, true, "set aside: 2", `"level":"info","file":"f.seg","bytes":7`},
			{"losses", spool.Lost{Reports: 3, Cause: "damaged"}, false, "reports lost since the start: 3, the last at 2000-01-01T00:00:00Z: 3 reports were damaged", `"reports":3,"cause":"damaged","dropped_total":3`},
			{"more losses", spool.Lost{Reports: 2, Cause: "damaged"}, false, "reports lost since the start: 5, ", `"dropped_total":5`},
			{"aside", spool.AsideDropped{ID: "p/1/2"}, false, "of what was set aside, for want of room or because of its age: 1", `"level":"warn","report":"p/1/2"`},
			{"more aside", spool.AsideDropped{ID: "p/1/3"}, false, "because of its age: 2", `"aside_dropped_total":2`},
			{"much aside", spool.AsideDropped{ID: "p/1/4"}, false, "because of its age: 3", `"level":"debug","report":"p/1/4"`},
		} {
			log.Reset()
			n.spoolEvent(step.event)
			ready, conditions := board.Read(time.Now())
			said := ""
			for _, c := range conditions {
				if c.Name == conditionQueue {
					said = c.Detail
				}
			}
			if ready != step.ready || !strings.Contains(said, step.says) || step.says == "" && said != "" || !strings.Contains(log.String(), step.logs) {
				t.Errorf("%s: ready %v, says %q, logs %s; want %v, %q and %s", step.name, ready, said, log, step.ready, step.says, step.logs)
			}
		}
		n.observe(actors.ReportDelivered{Kept: 0})
		if ready, _ := board.Read(time.Now()); !ready {
			t.Error("not ready when all that is left is delivered")
		}
	})
}
