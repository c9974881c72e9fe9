package convert

import (
	"net"
	"slices"

	"github.com/serviceradar/poller/config"
)

// agent is a converted agent: its tables, and how its connection is secured.
type agent struct {
	table    *table
	identity identity
	checks   []*table
}

// agents converts the agents, in the order of their names.
func (c *conversion) agents(f *fields) []agent {
	all := f.want("agents", kindObject, "an object that holds an object for each agent")
	if all == nil || len(all.kids) == 0 {
		c.note(c.header, "agents", "there are none, though ServiceRadar does not start without; the poller reports heartbeats alone")
		return nil
	}
	named := map[string]*value{}
	var names []string
	for _, kid := range all.kids {
		if named[kid.key] == nil {
			names = append(names, kid.key)
		} else {
			c.note(c.header, kid.path(), "written more than once: the last one counts, as with ServiceRadar")
		}
		named[kid.key] = kid
	}
	slices.Sort(names)
	agents := make([]agent, 0, len(names))
	for _, name := range names {
		if v := named[name]; v.kind == kindObject {
			agents = append(agents, c.agent(v))
		} else {
			c.problem(v, "found %s, want an object", v.found())
		}
	}
	return agents
}

func (c *conversion) agent(v *value) agent {
	t := newTable("agents."+config.QuoteKey(v.key), v)
	f := c.fields(v, t)
	hostless := false
	if address := f.text("address"); address != nil {
		var s string
		s, hostless = c.address(t, address)
		c.carry(t, "address", s, address)
	} else {
		c.missing(v, "address", `the host:port of the agent, such as "127.0.0.1:50051"`)
	}
	a := agent{table: t, identity: c.identity(f, t, t.key, hostless)}
	if list := f.want("checks", kindArray, "an array of objects"); list != nil {
		a.checks = c.checks(list, t)
	}
	if len(a.checks) == 0 {
		c.note(t, join(v.path(), "checks"), "there are none, so this agent is asked nothing")
	}
	f.rest()
	return a
}

// address returns an address with a host, and whether it had none.
func (c *conversion) address(t *table, v *value) (address string, hostless bool) {
	host, port, err := net.SplitHostPort(v.text)
	if err != nil || host != "" {
		return v.text, false
	}
	c.note(t, v.path(), "found %s, which has no host and means this one: 127.0.0.1 is written", v.found())
	return net.JoinHostPort("127.0.0.1", port), true
}
