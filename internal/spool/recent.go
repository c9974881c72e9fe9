package spool

import "slices"

// remembered is how many of the last ids a queue knows again after they are gone: more than there can be
// reports whose appending nobody confirmed.
const remembered = 1024

// recent are the latest ids that were appended, a ring.
type recent struct {
	ids  []appended
	next int
}

// appended is an id that Append knows again.
type appended struct {
	id      string
	refused bool // there was no room for the report
}

func (r *recent) find(id string) (known, refused bool) {
	i := slices.IndexFunc(r.ids, func(a appended) bool { return a.id == id })
	return i >= 0, i >= 0 && r.ids[i].refused
}

func (r *recent) add(id string, refused bool) {
	if len(r.ids) < remembered {
		r.ids = append(r.ids, appended{id, refused})
		return
	}
	r.ids[r.next] = appended{id, refused}
	r.next = (r.next + 1) % remembered
}
