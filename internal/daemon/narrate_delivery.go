package daemon

import (
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/wire"
)

func (n *narrator) delivery(now time.Time, event actors.Event) {
	switch e := event.(type) {
	case actors.ReportTaken:
		n.board.SetFor(now, conditionCycle, 3*n.config.Poll.Interval, "no cycle was closed and taken for three poll intervals")
		n.keeping = ""
		n.keeps(now, e.Kept)
		n.log.Debug().Str("report", e.ID).Int("kept", e.Kept).Msg("report taken")
	case actors.SpoolFailed:
		n.keeping = fmt.Sprintf("report %s can't be kept: %v", e.ID, e.Err)
		n.queueCondition(now)
		n.log.Error().Str("report", e.ID).Err(e.Err).Msg("report can't be kept safe; trying again")
	case actors.SpoolUnreadable:
		n.unreadable(now, e)
	case actors.ReportDropped:
		n.reportDropped(now, e)
	case actors.ReportSplit:
		n.log.Warn().Str("report", e.ID).Int("parts", e.Parts).Int("limit_bytes", e.Limit).
			Msg("core finds this too large, or is short of resources; it gets it in smaller parts. If this repeats, lower core.max_message")
	case actors.ReportDelivered:
		n.readable()
		n.delivered(now, e)
	case actors.DeliveryFailed:
		n.readable()
		n.deliveryFailed(now, e)
	}
}

// reportDropped: a spool drops whole segments, which may have tens of thousands of reports. Of one cause the 1st,
// 2nd, 4th, … is told; all are at level debug.
func (n *narrator) reportDropped(now time.Time, e actors.ReportDropped) {
	n.lost(now, fmt.Sprintf("report %s dropped: %s", e.ID, e.Cause))
	if e.Cause != n.dropping {
		n.dropping, n.drops = e.Cause, 0
	}
	n.drops++
	n.log.WithLevel(thinned(zerolog.ErrorLevel, n.drops)).Str("report", e.ID).Str("cause", e.Cause).Int("dropped_total", n.dropped).Msg("report dropped: its statuses are lost")
}

func (n *narrator) unreadable(now time.Time, e actors.SpoolUnreadable) {
	n.unread++
	n.reading = fmt.Sprintf("reports that are kept can't be read: %v", e.Err)
	n.queueCondition(now)
	if powerOfTwo(n.unread) {
		n.log.Error().Err(e.Err).Int("failed_attempts", n.unread).Stringer("retry_in", e.RetryIn.Round(time.Millisecond)).
			Msg("reports that are kept can't be read; trying again")
	}
}

// readable: what is delivered, or tried to be, was read. The condition is set by what follows.
func (n *narrator) readable() {
	if n.unread > 0 {
		n.log.Info().Int("failed_attempts", n.unread).Msg("reports that are kept can be read again")
	}
	n.unread, n.reading = 0, ""
}

func (n *narrator) delivered(now time.Time, e actors.ReportDelivered) {
	if n.failing > 0 {
		n.log.Info().Str("report", e.ID).Int("kept", e.Kept).Int("failed_attempts", n.failing).
			Stringer("away_for", now.Sub(n.since).Round(time.Millisecond)).Msg("core takes reports again")
	} else {
		n.log.Debug().Str("report", e.ID).Stringer("took", e.Took.Round(time.Microsecond)).Int("kept", e.Kept).Msg("report delivered")
	}
	n.failing, n.refusals = 0, 0
	if e.Kept == 0 {
		n.losing, n.dropping = false, ""
	}
	n.keeps(now, e.Kept)
}

func (n *narrator) deliveryFailed(now time.Time, e actors.DeliveryFailed) {
	if e.Outcome == wire.SetAside {
		n.refused(now, e)
		return
	}
	changed := n.failing > 0 && e.Outcome != n.failure.Outcome
	if n.failing++; n.failing == 1 {
		n.since = now
	}
	n.failure = e
	n.keeps(now, e.Kept)
	if !powerOfTwo(n.failing) && !changed {
		return
	}
	level, msg := zerolog.WarnLevel, "core did not take a report; it is kept and tried again"
	if e.Outcome == wire.Hold {
		level, msg = zerolog.ErrorLevel, "reports can't be delivered, and are kept until somebody mends that"
	}
	n.log.WithLevel(level).Str("report", e.ID).Err(e.Err).Int("failed_attempts", n.failing).Int("kept", e.Kept).Stringer("retry_in", e.RetryIn.Round(time.Millisecond)).Msg(msg)
}

// refused tells of what core will never take: it is lost only if it could not be set aside. Of a core that
// refuses one report after the other the 1st, 2nd, 4th, … is told; all are at level debug.
func (n *narrator) refused(now time.Time, e actors.DeliveryFailed) {
	n.kept = e.Kept
	n.refusals++
	line := n.log.WithLevel(thinned(zerolog.ErrorLevel, n.refusals)).Str("report", e.ID).Err(e.Err)
	if e.Lost == nil {
		n.aside++
		n.queueCondition(now)
		line.Int("set_aside_total", n.aside).Msg("core refuses this report for good; it is set aside: see `poller spool ls`")
		return
	}
	n.lost(now, fmt.Sprintf("core refused report %s for good: %v", e.ID, e.Err))
	line.AnErr("not_set_aside", e.Lost).Int("dropped_total", n.dropped).Msg("core refuses this report for good; its statuses are lost")
}

// thinned is the level of what comes for the nth time: that of the 1st, 2nd, 4th, … or debug.
func thinned(level zerolog.Level, n int) zerolog.Level {
	if powerOfTwo(n) {
		return level
	}
	return zerolog.DebugLevel
}

// keeps takes how many reports are kept, which both conditions tell.
func (n *narrator) keeps(now time.Time, kept int) {
	n.kept = kept
	n.coreCondition(now)
	n.queueCondition(now)
}

// coreCondition: a core that is away is explained; one that refuses us needs somebody.
func (n *narrator) coreCondition(now time.Time) {
	if n.failing == 0 {
		n.board.Set(now, conditionCore, true, "")
		return
	}
	n.board.Set(now, conditionCore, n.failure.Outcome != wire.Hold,
		fmt.Sprintf("core has taken no report since %s; reports kept: %d; failed attempts: %d; the last error: %v",
			clock(n.since), n.kept, n.failing, n.failure.Err))
}

func (n *narrator) lost(now time.Time, how string) {
	n.dropped++
	n.losing, n.lastly = true, fmt.Sprintf("the last at %s: %s", clock(now), how)
	n.queueCondition(now)
}

// queueCondition: what was lost stays told; it is bad until the queue has been empty since.
func (n *narrator) queueCondition(now time.Time) {
	var details []string
	if n.kept > 1 { // one is on its way
		details = append(details, fmt.Sprintf("reports that wait for core: %d", n.kept))
	}
	if n.dropped > 0 {
		details = append(details, fmt.Sprintf("reports lost since the start: %d, %s", n.dropped, n.lastly))
	}
	if n.aside > 0 {
		details = append(details, fmt.Sprintf("set aside since the start, because core refuses them for good: %d, see `poller spool ls`", n.aside))
	}
	if n.gone > 0 {
		details = append(details, fmt.Sprintf("dropped since the start of what was set aside, for want of room or because of its age: %d", n.gone))
	}
	if n.damaged > 0 {
		details = append(details, fmt.Sprintf("damaged in the spool, and set aside: %d, see `poller spool ls`", n.damaged))
	}
	for _, trouble := range []string{n.keeping, n.reading, n.unsafe, n.unmarked} {
		if trouble != "" {
			details = append(details, trouble)
		}
	}
	n.board.Set(now, conditionQueue, !n.losing && n.keeping == "" && n.reading == "" && n.unsafe == "", strings.Join(details, "; "))
}

// clock is a time as conditions tell it.
func clock(at time.Time) string { return at.UTC().Format(time.RFC3339) }
