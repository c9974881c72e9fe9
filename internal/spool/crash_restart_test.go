package spool

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// seen is what a spool that was opened has.
type seen struct {
	kept     []entry // id and body
	state    map[string]string
	asides   map[string]bool
	lost     int
	damaged  int
	forsaken map[string]bool // what was set aside and dropped
}

// peek opens a copy of what is on the disk, and takes all out of it.
func (m *promise) peek(c *crashFiles) (s seen) {
	s.asides, s.forsaken = make(map[string]bool), make(map[string]bool)
	cfg := m.cfg
	cfg.Tell = func(e Event) {
		switch e := e.(type) {
		case Lost:
			s.lost += e.Reports
		case Damaged:
			s.damaged++
		case Unfinished: // maybe of a write long ago, whose removal was not durable
		case AsideDropped:
			s.forsaken[e.ID] = true
		default:
			m.t.Fatalf("told after the crash: %T%+v", e, e)
		}
	}
	d, err := open(c, cfg)
	if err != nil {
		m.t.Fatalf("open after the crash: %v", err)
	}
	if d.Boot() <= m.boot {
		m.t.Fatalf("boot %d after %d", d.Boot(), m.boot)
	}
	s.state = d.State()
	for _, f := range d.aside {
		s.asides[f.id] = true
	}
	for {
		id, got, ok, err := d.Next()
		if err != nil {
			m.t.Fatalf("Next after the crash: %v", err)
		}
		if !ok {
			break
		}
		s.kept = append(s.kept, entry{id: id, body: got})
		d.Ack(id)
	}
	if err := d.Close(); err != nil || c.openFiles() != 0 {
		m.t.Fatalf("Close after the crash: %v; %d files are open", err, c.openFiles())
	}
	return s
}

// crashed goes on after a loss of power, for which there is a choose, or a kill, with what that leaves.
func (m *promise) crashed(choose func(int) int) {
	m.disk = nil
	m.ends++
	if m.c.cutsSector() {
		choose = allNew
	}
	loss := choose != nil
	if loss {
		m.c = m.c.restart(choose)
	} else {
		m.c = m.c.kill()
	}
	m.c.limit(-1, false)
	left := m.c
	if m.openFailing != nil {
		m.openFailing(left)
	}
	s := m.peek(left.kill())
	m.c = left.kill()
	m.compare(s, loss)
	m.adopt(s, loss)
	m.failing = false
}

// cutsSector says whether the crash is in the writing of a sector of its own: the end of the process can't cut that.
func (c *crashFiles) cutsSector() bool {
	if !c.dead || c.crash.step == 0 || c.crash.step != len(c.trace) {
		return false
	}
	s := c.trace[len(c.trace)-1]
	return s.op == opWrite && s.name == marksName && c.crash.done > 0 && c.crash.done < s.size
}

// compare holds that what there is after a crash is what was promised.
func (m *promise) compare(s seen, loss bool) {
	if s.damaged > 0 && !m.faulty && !m.forgot {
		m.t.Fatalf("%d are damaged", s.damaged)
	}
	present := m.identify(s.kept)
	missing := m.missing(present)
	if s.lost > 0 && (!m.faulty || s.lost > missing) && !m.marksFail && !m.forgetful {
		m.t.Fatalf("told that %d are lost", s.lost)
	}
	m.returned(present, loss)
	if !m.possible(s.state) {
		m.t.Fatalf("the state is %v, which it may not be: %v", s.state, m.possibleStates())
	}
	for id := range m.asides {
		if !s.asides[id] && !s.forsaken[id] {
			m.t.Fatalf("%s was set aside, and is not there", id)
		}
	}
}

// known is all that there may be, in order.
func (m *promise) known() []entry {
	all := slices.Concat(m.gone, m.kept)
	if m.adding != nil {
		all = append(all, *m.adding)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.n, b.n) })
	return all
}

// identify returns the numbers of what came: each is known, as it was, and in order.
func (m *promise) identify(came []entry) map[int]bool {
	present := make(map[int]bool)
	rest := m.known()
	for _, e := range came {
		i := slices.IndexFunc(rest, func(k entry) bool { return k.id == e.id })
		if i < 0 {
			m.t.Fatalf("%s came: invented, again, or out of order; %q came, gone are %q, kept %q", e.id, ids(came), ids(m.gone), ids(m.kept))
		}
		if string(rest[i].body) != string(e.body) {
			m.t.Fatalf("%s has the body %q, want %q", e.id, e.body, rest[i].body)
		}
		present[rest[i].n] = true
		rest = rest[i+1:]
	}
	return present
}

// missing holds that what is missing may be, and returns how many that are of those that were not sure.
func (m *promise) missing(present map[int]bool) (unsure int) {
	var dropped []entry
	firstPresent := 0
	added := m.adding != nil && present[m.adding.n]
	if m.adding != nil && !added {
		unsure++
	}
	for _, e := range m.kept {
		old := slices.Contains(m.old, e.n)
		switch {
		case present[e.n]:
			if added && old && !m.marksFail {
				m.t.Fatalf("%s is there, and %s, too old for it", m.adding.id, e.id)
			}
			if firstPresent == 0 && e.n != m.lent && !old {
				firstPresent = e.n
			}
		case !e.sure:
			unsure++
		case e.n == m.acking, old && m.adding != nil:
		case m.adding == nil:
			m.t.Fatalf("%s is lost", e.id)
		default:
			if firstPresent > 0 {
				m.t.Fatalf("%s is lost, not an older one", e.id)
			}
			dropped = append(dropped, e)
		}
	}
	if m.failing && !m.cfg.DropNewest {
		return unsure // memory may have been full, too
	}
	if need := m.need(); len(dropped) > 0 && (need <= 0 || m.cfg.DropNewest || total(dropped)-need >= m.slack(dropped)) {
		m.t.Fatalf("%q are lost; %d bytes of room were needed", ids(dropped), need)
	}
	return unsure
}

// need is how much room the report that is appended needs beside those that are not too old.
func (m *promise) need() int64 {
	if m.adding == nil {
		return 0
	}
	need := m.adding.bytes() - m.cfg.MaxBytes
	for _, e := range m.kept {
		if !slices.Contains(m.old, e.n) {
			need += e.bytes()
		}
	}
	return need
}

// returned holds that what came again may: what was acknowledged last, at most a segment of it, and if
// only the process ended, nothing.
func (m *promise) returned(present map[int]bool, loss bool) {
	var back []entry
	for _, e := range m.gone {
		if present[e.n] {
			back = append(back, e)
		} else if len(back) > 0 && !m.faulty {
			m.t.Fatalf("%s came again, but not %s after it", back[len(back)-1].id, e.id)
		}
	}
	if len(back) == 0 {
		return
	}
	failing := m.failing && (m.acking != 0 || m.adding != nil) // and nobody could be told yet
	if !loss && !m.marksFail && !failing {
		m.t.Fatalf("%q came again after a kill", ids(back))
	}
	if !m.faulty && total(back) > m.slack(back) {
		m.t.Fatalf("%q came again: %d bytes, more than a segment", ids(back), total(back))
	}
}

// possible says whether the state may be this: one of a time since what is sure; value by value, if some reports
// could not be written.
func (m *promise) possible(state map[string]string) bool {
	all := m.possibleStates()
	if !m.faulty {
		return slices.ContainsFunc(all, func(s map[string]string) bool { return maps.Equal(s, state) })
	}
	for key := range all[len(all)-1] {
		if !slices.ContainsFunc(all, func(s map[string]string) bool { return s[key] == state[key] }) {
			return false
		}
	}
	return true
}

func (m *promise) possibleStates() []map[string]string {
	all := slices.Clone(m.states)
	if m.adding != nil {
		last := maps.Clone(all[len(all)-1])
		maps.Copy(last, m.adding.state)
		all = append(all, last)
	}
	return all
}

// adopt makes what was seen what there is. After a kill it is not yet sure, until it is opened.
func (m *promise) adopt(s seen, loss bool) {
	present := m.identify(s.kept)
	var kept, gone []entry
	for _, e := range m.known() {
		e.sure = e.sure || loss
		e.doubtful = m.faulty && !e.sure
		switch {
		case present[e.n]:
			kept = append(kept, e)
		case m.adding == nil || e.n != m.adding.n:
			gone = append(gone, e)
		}
	}
	m.kept, m.gone = kept, gone
	m.failed = m.failed || m.faulty
	switch {
	case loss:
		m.gone, m.states, m.faulty, m.marksFail, m.forgetful = nil, []map[string]string{s.state}, false, false, false
	case m.faulty:
		m.states, m.forgetful = append(m.states, s.state), true
	default:
		m.states = append(m.states[:1:1], s.state)
	}
	m.adding, m.old, m.acking, m.lent = nil, nil, 0, 0
	m.strange, m.lost = "", s.lost
}

// open opens the spool; false if it crashes thereby.
func (m *promise) open() bool {
	cfg := m.cfg
	cfg.Tell = m.tell
	d, err := open(m.c, cfg)
	if m.c.dead {
		return false
	}
	if err != nil {
		m.t.Fatalf("open: %v", err)
	}
	m.disk = d
	if m.memoryLimit > 0 {
		d.memoryLimit = m.memoryLimit
	}
	if d.Boot() <= m.boot {
		m.t.Fatalf("boot %d after %d", d.Boot(), m.boot)
	}
	m.boot, m.failed = d.Boot(), false
	m.gone, m.marksFail = nil, false
	if last := m.states[len(m.states)-1]; !maps.Equal(d.State(), last) {
		m.t.Fatalf("the state is %v, want %v", d.State(), last)
	}
	m.settle()
	m.look()
	for name := range m.c.names {
		if strings.HasSuffix(name, temporarySuffix) {
			m.t.Fatalf("%s is left", name)
		}
	}
	return true
}

// close closes the spool; false if it crashes thereby.
func (m *promise) close() bool {
	err := m.disk.Close()
	if m.c.dead {
		return false
	}
	if n := m.c.openFiles(); n != 0 {
		m.t.Fatalf("%d files are open after Close", n)
	}
	if err != nil && !m.failing {
		m.t.Fatalf("Close: %v", err)
	}
	if err == nil {
		m.gone = nil
		for i := range m.kept {
			m.kept[i].sure = !m.kept[i].doubtful
		}
		if !m.forgetful {
			m.states = m.states[len(m.states)-1:]
		}
	}
	return true
}
