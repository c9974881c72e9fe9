package machine

import (
	"maps"

	"github.com/serviceradar/poller/internal/check"
)

// Confirmations decides when core hears that a check is unavailable: with the last of Confirm runs in a row; that it is
// available again it hears at once. Checks go by their agents' and their own names. The zero value is ready to use; only
// checks that are unavailable and have a Confirm above 1 take room in it.
type Confirmations struct{ rows map[checkName]uint8 }

// confirmed stands for a row of unavailable runs that was long enough. So it stays, if more become necessary meanwhile:
// core must not hear of a recovery that nobody has seen.
const confirmed = ^uint8(0)

// Note takes the next status of a check, and marks it if core is not to hear yet that it is unavailable.
func (c *Confirmations) Note(status *check.Status) {
	if status.Check.Confirm <= 1 {
		return
	}
	name := checkName{status.Agent.Name, status.Check.Name}
	if status.Available {
		delete(c.rows, name)
		return
	}
	row := c.rows[name]
	if row == confirmed {
		return
	}
	if row++; row >= status.Check.Confirm {
		row = confirmed
	} else {
		status.Confirming = row
	}
	if c.rows == nil {
		c.rows = make(map[checkName]uint8)
	}
	c.rows[name] = row
}

// Rows returns the rows of an agent's checks, by their names; nil if there are none. 255 stands for a row that was long enough.
func (c *Confirmations) Rows(agent *check.Agent) map[string]uint8 {
	var rows map[string]uint8
	for i := range agent.Checks {
		if row := c.rows[checkName{agent.Name, agent.Checks[i].Name}]; row > 0 {
			if rows == nil {
				rows = make(map[string]uint8)
			}
			rows[agent.Checks[i].Name] = row
		}
	}
	return rows
}

// Resume has the rows of an agent's checks be as another node knows them.
func (c *Confirmations) Resume(agent *check.Agent, rows map[string]uint8) {
	for i := range agent.Checks {
		name := checkName{agent.Name, agent.Checks[i].Name}
		delete(c.rows, name)
		if row := rows[name.check]; row > 0 && agent.Checks[i].Confirm > 1 {
			if c.rows == nil {
				c.rows = make(map[checkName]uint8)
			}
			c.rows[name] = row
		}
	}
}

// Retain forgets the checks that it is not told to keep.
func (c *Confirmations) Retain(keep func(agent, check string) bool) {
	maps.DeleteFunc(c.rows, func(name checkName, _ uint8) bool { return !keep(name.agent, name.check) })
}
