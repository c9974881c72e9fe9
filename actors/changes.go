package actors

import (
	"strings"

	"github.com/serviceradar/poller/internal/check"
)

// Change is what ChecksChanged says of one check.
type Change struct {
	Check     string
	Available bool
	Reason    check.Reason
	// Detail explains the reason; without one, it is what the checker says of an unavailable target.
	Detail string
}

type verdict struct {
	available bool
	reason    check.Reason
}

// changes is what an agent knows of its checks' last statuses, for telling what changed.
type changes struct {
	// told is what each check's status was when it was told last, or when it need not be told.
	told map[*check.Check]verdict
	// untold are the checks that differ from that by now.
	untold map[*check.Check]Change
}

func newChanges(checks int) changes {
	return changes{told: make(map[*check.Check]verdict, checks), untold: make(map[*check.Check]Change)}
}

// note takes a status of a check. An open breaker has nothing to say of it: what was known stands.
func (c *changes) note(status check.Status) {
	if status.Reason == check.CircuitOpen {
		return
	}
	now := verdict{available: status.Available, reason: status.Reason}
	before, known := c.told[status.Check]
	switch {
	case known && now == before:
		delete(c.untold, status.Check)
		return
	case !known && now.available: // the first status of a check is a change unless all is well
		delete(c.untold, status.Check)
		c.told[status.Check] = now
		return
	}
	detail := status.Detail
	if status.Reason == "" && !status.Available {
		detail = excerpt(status.Message)
	}
	c.untold[status.Check] = Change{Check: status.Check.Name, Available: status.Available, Reason: status.Reason, Detail: detail}
}

// tell returns what changed of the checks of some runs and was not told, in their order; nil if nothing
// did.
func (c *changes) tell(runs []check.Run) []Change {
	var list []Change
	for i := range runs {
		chk := runs[i].Check
		change, ok := c.untold[chk]
		if !ok {
			continue
		}
		delete(c.untold, chk)
		c.told[chk] = verdict{available: change.Available, reason: change.Reason}
		list = append(list, change)
	}
	return list
}

// excerpt is as much of a checker's message as fits into a line of the log.
func excerpt(message []byte) string {
	const most = 300
	if len(message) > most {
		message = append(message[:most:most], "…"...)
	}
	return strings.ToValidUTF8(string(message), "")
}
