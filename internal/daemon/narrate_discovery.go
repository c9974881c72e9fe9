package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/discover"
)

// sources tells when something begins or ceases to be wrong with a source of targets. Whatever it is, the last good list stands.
func (n *narrator) sources(all []discover.Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := make(map[string]string, len(all))
	for _, s := range all {
		if text := oddity(&s); text != "" {
			now[s.ID] = text
		}
	}
	for _, s := range all {
		before, text := n.odd[s.ID], now[s.ID]
		switch {
		case strings.Map(withoutDigits, before) == strings.Map(withoutDigits, text):
		case text == "":
			n.log.Info().Str("source", s.ID).Int("targets", s.Targets).Msg("source of targets is all right again")
		default:
			n.log.Warn().Str("source", s.ID).Int("targets", s.Targets).Str("cause", text).Msg("source of targets is not all right; its last good lists stay in use")
		}
	}
	n.odd = now
	if n.discovering = n.discovering || len(all) > 0; n.discovering {
		n.discovery()
	}
}

// oddity says what is wrong with a source; empty if nothing is.
func oddity(s *discover.Status) string {
	var parts []string
	if s.Err != nil {
		parts = append(parts, s.Err.Error())
	}
	if s.Held > 0 {
		parts = append(parts, fmt.Sprintf("%d targets are not listed any more, and stay until that is seen again", s.Held))
	}
	if s.StateErr != nil {
		parts = append(parts, s.StateErr.Error())
	}
	if s.Warning != "" {
		parts = append(parts, s.Warning)
	}
	return strings.Join(parts, "; ")
}

// skipped tells of targets of which no agents could be made, when there are others than before.
func (n *narrator) skipped(targets []string, total int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(n.left, targets) && n.leftTotal == total {
		return
	}
	n.left, n.leftTotal = targets, total
	if len(targets) > 0 {
		n.log.Warn().Strs("problems", targets[:min(len(targets), shownNames)]).Int("problems_total", total).
			Msg("of these targets no agents could be made; the others are polled")
	} else {
		n.log.Info().Msg("all targets are agents now")
	}
	n.discovery()
}

// discovery says in readiness what is wrong. That is no reason not to rely on the poller.
func (n *narrator) discovery() {
	var lines []string
	for id, text := range n.odd {
		lines = append(lines, id+": "+text)
	}
	lines = append(lines, n.left...)
	detail := ""
	if len(lines) > 0 {
		detail = some(lines)
	}
	n.board.Set(time.Now(), conditionDiscovery, true, detail)
}
