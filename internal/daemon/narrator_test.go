package daemon

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/wire"
)

// TestReadiness follows a poller through its troubles: what makes it not ready, what it says, and
// that it recovers by itself.
func TestReadiness(t *testing.T) {
	t.Parallel()
	away := status.Error(codes.Unavailable, "away")
	synctest.Test(t, func(t *testing.T) {
		board := new(observe.Board)
		n := newNarrator(zerolog.Nop(), board, configOf(100))
		for _, step := range []struct {
			name  string
			event actors.Event
			ready bool
			says  string // a detail; empty means that there is none
		}{
			{"at the start", actors.CycleClosed{}, false, "the first cycle has not closed yet"},
			{"the first report", actors.ReportTaken{Kept: 1}, true, ""},
			{"core is away", actors.DeliveryFailed{Outcome: wire.Retry, Err: away, Kept: 1}, true, "core has taken no report since 2000-01-01T00:00:00Z; reports kept: 1; failed attempts: 1; the last error: rpc error"},
			{"another report", actors.ReportTaken{Kept: 2}, true, "reports kept: 2; failed attempts: 1"},
			{"core refuses us", actors.DeliveryFailed{Outcome: wire.Hold, Err: away, Kept: 2}, false, "failed attempts: 2"},
			{"core takes it", actors.ReportDelivered{Kept: 1}, true, ""},
			{"a report can't be kept", actors.SpoolFailed{ID: "r", Err: errors.New("disk full")}, false, "disk full"},
			{"now it can", actors.ReportTaken{Kept: 2}, true, "reports that wait for core: 2"},
			{"one is dropped", actors.ReportDropped{ID: "r", Cause: "full"}, false, "reports lost since the start: 1, the last at 2000-01-01T00:00:00Z: report r dropped: full"},
			{"one is delivered", actors.ReportDelivered{Kept: 1}, false, "report r dropped"},
			{"all are delivered", actors.ReportDelivered{Kept: 0}, true, "reports lost since the start: 1, the last at"},
			{"one is refused for good", actors.DeliveryFailed{Outcome: wire.SetAside, Err: away, Lost: errors.New("disk full")}, false, "reports lost since the start: 2, "},
			{"all are delivered again", actors.ReportDelivered{Kept: 0}, true, "reports lost since the start: 2, "},
			{"one is set aside", actors.DeliveryFailed{Outcome: wire.SetAside, Err: away}, true, "set aside since the start, because core refuses them for good: 1, see `poller spool ls`"},
			{"none can be read", actors.SpoolUnreadable{Err: errors.New("input/output error")}, false, "reports lost since the start: 2, "},
			{"still not", actors.SpoolUnreadable{Err: errors.New("input/output error")}, false, "; reports that are kept can't be read: input/output error"},
			{"one can, and is delivered", actors.ReportDelivered{Kept: 0}, true, "for good: 1, see"},
			{"again none can", actors.SpoolUnreadable{Err: errors.New("input/output error")}, false, "can't be read: input/output error"},
			{"one can, and core is away", actors.DeliveryFailed{Outcome: wire.Retry, Err: away, Kept: 1}, true, "core has taken no report since"},
			{"core is back", actors.ReportDelivered{Kept: 0}, true, "set aside since the start"},
			{"an agent is parked", actors.ActorFailed{Actor: "agent/a", Parked: true}, true, "1 parked after too many restarts: agent/a"},
			{"the reporter, too", actors.ActorFailed{Actor: "reporter", Parked: true}, false, "2 parked"},
			{"it is back", actors.ActorRestarted{Actor: "reporter"}, true, "agent/a"},
		} {
			n.observe(step.event)
			ready, conditions := board.Read(time.Now())
			var details []string
			for _, c := range conditions {
				if c.Detail != "" {
					details = append(details, c.Detail)
				}
			}
			said := strings.Join(details, "; ")
			if ready != step.ready || !strings.Contains(said, step.says) || step.says == "" && said != "" {
				t.Errorf("%s: ready %v, says %q; want %v and %q", step.name, ready, said, step.ready, step.says)
			}
		}
		n.observe(actors.ReportTaken{})
		time.Sleep(30 * time.Second)
		if ready, _ := board.Read(time.Now()); ready {
			t.Error("ready although nothing has happened for three intervals")
		}
	})
}

// configOf returns the configuration of so many agents, as far as a narrator needs it.
func configOf(agents int) *config.Config {
	return &config.Config{Poll: config.Poll{Interval: 10 * time.Second}, Agents: make([]*check.Agent, agents)}
}
