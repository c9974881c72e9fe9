package actors

import (
	"maps"
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

// changes is what an agent knows of its checks' last statuses, by their names, for telling what changed. While all is well
// that is nothing; the zero changes are ready to use.
type changes struct {
	// told is what each check's status was when it was told last; those that are well are not in it, nor
	// those of which nothing was told, for the first status of a check is a change unless all is well.
	told map[string]verdict
	// untold are the checks that differ from that by now.
	untold map[string]Change
}

// note takes a status of a check. An open breaker has nothing to say of it: what was known stands.
func (c *changes) note(status check.Status) {
	if status.Reason == check.CircuitOpen {
		return
	}
	before, ill := c.told[status.Check.Name]
	if !ill {
		before = well
	}
	if before == (verdict{available: status.Available, reason: status.Reason}) {
		delete(c.untold, status.Check.Name)
		return
	}
	detail := status.Detail
	if status.Reason == "" && !status.Available {
		detail = excerpt(status.Message)
	}
	if c.untold == nil {
		c.untold = make(map[string]Change)
	}
	c.untold[status.Check.Name] = Change{Check: status.Check.Name, Available: status.Available, Reason: status.Reason, Detail: detail}
}

// tell returns what changed of the checks of some runs and was not told, in their order; nil if nothing
// did.
func (c *changes) tell(runs []check.Run) []Change {
	var list []Change
	for i := range runs {
		chk := runs[i].Check.Name
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

func (c *changes) remember(chk string, v verdict) {
	if v == well {
		delete(c.told, chk)
		return
	}
	if c.told == nil {
		c.told = make(map[string]verdict)
	}
	c.told[chk] = v
}

// forget forgets the checks that are no more.
func (c *changes) forget(gone func(chk string) bool) {
	maps.DeleteFunc(c.told, func(chk string, _ verdict) bool { return gone(chk) })
	maps.DeleteFunc(c.untold, func(chk string, _ Change) bool { return gone(chk) })
}

// excerpt is as much of a checker's message as fits into a line of the log.
func excerpt(message []byte) string {
	const most = 300
	if len(message) > most {
		message = append(message[:most:most], "…"...)
	}
	return strings.ToValidUTF8(string(message), "")
}
