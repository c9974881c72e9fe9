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

var well = verdict{available: true}

// changes is what an agent knows of its checks' last statuses, for telling what changed. While all is well
// that is nothing; the zero changes are ready to use.
type changes struct {
	// told is what each check's status was when it was told last; those that are well are not in it, nor
	// those of which nothing was told, for the first status of a check is a change unless all is well.
	told map[*check.Check]verdict
	// untold are the checks that differ from that by now.
	untold map[*check.Check]Change
}

// note takes a status of a check. An open breaker has nothing to say of it: what was known stands.
func (c *changes) note(status check.Status) {
	if status.Reason == check.CircuitOpen {
		return
	}
	before, ill := c.told[status.Check]
	if !ill {
		before = well
	}
	if before == (verdict{available: status.Available, reason: status.Reason}) {
		delete(c.untold, status.Check)
		return
	}
	detail := status.Detail
	if status.Reason == "" && !status.Available {
		detail = excerpt(status.Message)
	}
	if c.untold == nil {
		c.untold = make(map[*check.Check]Change)
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
		c.remember(chk, verdict{available: change.Available, reason: change.Reason})
		list = append(list, change)
	}
	return list
}

func (c *changes) remember(chk *check.Check, v verdict) {
	if v == well {
		delete(c.told, chk)
		return
	}
	if c.told == nil {
		c.told = make(map[*check.Check]verdict)
	}
	c.told[chk] = v
}

// excerpt is as much of a checker's message as fits into a line of the log.
func excerpt(message []byte) string {
	const most = 300
	if len(message) > most {
		message = append(message[:most:most], "…"...)
	}
	return strings.ToValidUTF8(string(message), "")
}
