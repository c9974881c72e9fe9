package daemon

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/wire"
)

// What repeats is told the 1st, 2nd, 4th, 8th time, and so on.
func TestLogThinsOutWhatRepeats(t *testing.T) {
	t.Parallel()
	retry := actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.Retry, Err: errAway}
	hold := actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.Hold, Err: errRefused}
	refused := actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.SetAside, Err: errRefused}
	notAside := actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.SetAside, Err: errRefused, Lost: errAway}
	for name, tt := range map[string]struct {
		before []actors.Event
		event  actors.Event
		field  string
	}{
		"core is away":     {event: retry, field: "failed_attempts"},
		"core refuses us":  {event: hold, field: "failed_attempts"},
		"away once more":   {before: []actors.Event{retry, retry, retry, actors.ReportDelivered{}}, event: retry, field: "failed_attempts"},
		"refused for good": {event: refused, field: "set_aside_total"},
		"refused and lost": {event: notAside, field: "dropped_total"},
		"unreadable":       {event: actors.SpoolUnreadable{Err: errAway}, field: "failed_attempts"},
		"answers too late": {event: actors.StatusDiscarded{Agent: "a", Check: "ssh"}, field: "discarded_total"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			n := newNarrator(zerolog.New(&log).Level(zerolog.InfoLevel), new(observe.Board), configOf(100))
			for _, e := range tt.before {
				n.observe(e)
			}
			log.Reset()
			for range 20 {
				n.observe(tt.event)
			}
			var got []float64
			for _, line := range lines(t, log.Bytes()) {
				number, _ := line[tt.field].(float64)
				got = append(got, number)
			}
			if diff := cmp.Diff([]float64{1, 2, 4, 8, 16}, got); diff != "" {
				t.Errorf("%s in the lines (-want +got):\n%s", tt.field, diff)
			}
		})
	}
}

// What is refused after a delivery is told again, whatever number was refused before.
func TestLogTellsRefusalsAnew(t *testing.T) {
	t.Parallel()
	refused := actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.SetAside, Err: errRefused}
	if got := told(t, refused, refused, actors.ReportDelivered{ID: "p/b/2"}, refused); len(got) != 1 || got[0]["level"] != "error" || got[0]["set_aside_total"] != 3.0 {
		t.Errorf("told: %v", got)
	}
}

// That reports can be read again is told once, by whatever shows it first.
func TestLogTellsThatReportsCanBeReadAgain(t *testing.T) {
	t.Parallel()
	unreadable := actors.SpoolUnreadable{Err: errAway}
	for name, shows := range map[string]actors.Event{
		"core takes it": actors.ReportDelivered{ID: "p/b/1"},
		"core is away":  actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.Retry, Err: errAway},
		"core refuses":  actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.SetAside, Err: errRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const again = "reports that are kept can be read again"
			got := told(t, unreadable, unreadable, unreadable, shows)
			if len(got) != 2 || got[0]["message"] != again || got[0]["failed_attempts"] != 3.0 {
				t.Errorf("told: %v", got)
			}
			if got := told(t, unreadable, shows, shows); len(got) > 1 {
				t.Errorf("told again: %v", got)
			}
		})
	}
}
