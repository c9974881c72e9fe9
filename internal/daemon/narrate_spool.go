package daemon

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/internal/spool"
)

// spoolEvent takes an event of the spool on disk.
func (n *narrator) spoolEvent(event spool.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	switch e := event.(type) {
	case spool.Unsafe:
		n.unsafe = fmt.Sprintf("reports are kept in memory only, and lost if the poller ends before they can be written: %v", e.Err)
		n.log.Error().Err(e.Err).Msg("the spool can't be written: reports are kept in memory until it can, and lost if the poller ends before")
	case spool.SafeAgain:
		n.unsafe = ""
		n.log.Info().Msg("the spool is written again: all reports that are kept are on disk")
	case spool.PositionUnsafe:
		n.position(e.Err)
	case spool.Damaged:
		n.damaged++
		line := n.log.Error().Str("file", e.File).Str("cause", e.Reason)
		if e.Err != nil {
			line = line.AnErr("not_kept", e.Err)
		}
		line.Msg("something in the spool can't be read; what it was is kept aside: see `poller spool ls`")
	case spool.Unfinished:
		n.log.Info().Str("file", e.File).Int("bytes", e.Bytes).Msg("the last write to the spool was not finished when the poller or the machine stopped; nothing that was taken is lost by that")
	case spool.Lost:
		n.dropped += e.Reports - 1 // lost counts one
		n.lost(now, fmt.Sprintf("%d reports were %s", e.Reports, e.Cause))
		n.log.Error().Int("reports", e.Reports).Str("cause", e.Cause).Int("dropped_total", n.dropped).Msg("reports are lost")
	case spool.AsideDropped:
		n.gone++
		n.log.WithLevel(thinned(zerolog.WarnLevel, n.gone)).Str("report", e.ID).Time("since", e.Since).Int("aside_dropped_total", n.gone).Msg("what was set aside is dropped: it is older than spool.max_age, or there is more than a tenth of spool.max_bytes")
	}
	n.queueCondition(now)
}

func (n *narrator) position(err error) {
	n.unmarked = ""
	if err == nil {
		n.log.Info().Msg("the read position of the spool is saved again")
		return
	}
	n.unmarked = fmt.Sprintf("the read position can't be saved, so that core would get reports again after a restart: %v", err)
	n.log.Error().Err(err).Msg("the read position of the spool can't be saved: after a restart core would get reports again")
}
