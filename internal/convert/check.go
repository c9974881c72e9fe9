package convert

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/serviceradar/poller/config"
)

// resultsTimeout is what ServiceRadar gave to a request for results.
const resultsTimeout = 30 * time.Second

// carried is what is carried of a check. Those that are equal ask the same.
type carried struct {
	name, kind, details string
	port                string        // a number; empty if there is none
	results             time.Duration // 0 if it is asked for its status
}

// checks converts the checks of the agent whose table is given.
func (c *conversion) checks(list *value, agent *table) []*table {
	taken := map[string]bool{} // also by checks that are yet to come: theirs is the right to their names
	for _, v := range list.kids {
		taken[v.name()] = true
	}
	used, seen := map[string]bool{}, map[carried]*value{}
	last := map[string]int{} // the number that a name was given last
	var tables []*table
	for _, v := range list.kids {
		if v.kind != kindObject {
			c.problem(v, "found %s, want an object", v.found())
			continue
		}
		t := newTable(agent.key+".checks["+strconv.Itoa(len(tables))+"]", v)
		t.header = "[[" + agent.key + ".checks]]"
		f := c.fields(v, t)
		ch, typed := c.check(f, agent)
		if !typed {
			continue
		}
		if first := seen[ch]; first != nil {
			c.note(agent, v.path(), "left out: it asks %s the same as %s", quoted(ch.name), first.path())
			continue
		}
		seen[ch] = v
		if used[ch.name] {
			c.rename(f, &ch, taken, last)
		}
		used[ch.name] = true
		c.writeCheck(f, &ch)
		f.rest()
		tables = append(tables, t)
	}
	return tables
}

// check reads a check, and tells whether it has a type, without which it can't be carried.
func (c *conversion) check(f *fields, agent *table) (ch carried, typed bool) {
	ch.name = f.of.name()
	if kind := f.text("service_type"); kind != nil {
		ch.kind = kind.text
	}
	name := f.text("service_name")
	if details := f.text("details"); details != nil {
		ch.details = details.text
	}
	port := f.integer("port")
	d, results := f.duration("results_interval")
	if strings.TrimSpace(ch.kind) == "" {
		c.warn(agent, f.of.path(), "left out: it has no service_type, so no checker knows what to do")
		return ch, false
	}
	if name == nil || strings.TrimSpace(name.text) == "" {
		c.note(f.at, join(f.of.path(), "service_name"), "missing: the service_type is the name, too")
	}
	switch {
	case port == nil:
	case ch.kind == "port":
		ch.port = port.text
	default:
		c.note(f.at, port.path(), "not carried: ServiceRadar sends it with checks of the type port alone")
	}
	if results != nil {
		ch.results = c.resultsInterval(f.at, results, d)
	}
	return ch, true
}

// name returns what a check is called: its name, or its type if it has none.
func (v *value) name() string {
	for _, field := range []string{"service_name", "service_type"} {
		all := v.matches(field)
		if len(all) == 0 {
			continue
		}
		if name := merge(all); name.kind == kindText && strings.TrimSpace(name.text) != "" {
			return name.text
		}
	}
	return ""
}

// rename gives a check a name that no other check of the agent has.
func (c *conversion) rename(f *fields, ch *carried, taken map[string]bool, last map[string]int) {
	for n := max(2, last[ch.name]+1); ; n++ {
		name := fmt.Sprintf("%s (%d)", ch.name, n)
		last[ch.name] = n
		if taken[name] {
			continue
		}
		c.note(f.at, f.from("service_name").path(), "found %s again: names are unique within an agent here, so this check is %s, to core, too",
			quoted(ch.name), quoted(name))
		ch.name, taken[name] = name, true
		return
	}
}

// resultsInterval makes a whole multiple of poll.interval of d.
func (c *conversion) resultsInterval(t *table, v *value, d time.Duration) time.Duration {
	most := maxInterval - maxInterval%c.interval
	switch past := d % c.interval; {
	case d <= 0:
		c.note(t, v.path(), "found %s, which means each time: poll.interval is written", v.foundDuration())
		return c.interval
	case d > most:
		c.note(t, v.path(), "found %s, but %s is the longest that the poller takes", v.foundDuration(), durationText(most))
		return most
	case past != 0:
		up := d - past + c.interval
		c.note(t, v.path(), "found %s, rounded up to %s: it has to be a whole multiple of poll.interval, when ServiceRadar asked, too",
			v.foundDuration(), durationText(min(up, most)))
		return min(up, most)
	}
	return d
}

// writeCheck writes a check to its table.
func (c *conversion) writeCheck(f *fields, ch *carried) {
	t := f.at
	c.carry(t, "name", ch.name, f.from("service_name"))
	c.carry(t, "type", ch.kind, f.from("service_type"))
	if ch.details != "" {
		c.carry(t, "details", ch.details, f.from("details"))
	}
	if ch.port != "" {
		t.set("port", ch.port, f.from("port"))
	}
	if ch.results != 0 {
		from := f.from("results_interval")
		t.set("results_interval", config.Quote(durationText(ch.results)), from)
		t.set("timeout", config.Quote(durationText(min(resultsTimeout, ch.results))), from)
	}
}
