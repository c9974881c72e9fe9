package main

import (
	"errors"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/spool"
)

// picked says which entries a command is for, and counts them.
type picked struct {
	ids     map[string]bool // true once it was found
	aside   bool            // all that was set aside or is damaged
	all     bool
	entries int
}

func pickIDs(ids []string) *picked {
	p := &picked{ids: make(map[string]bool)}
	for _, id := range ids {
		p.ids[id] = false
	}
	return p
}

func (p *picked) take(e *spool.Entry) bool {
	_, named := p.ids[e.ID]
	if named {
		p.ids[e.ID] = true
	}
	if !named && !p.all && (!p.aside || !isAside(e.Kind)) {
		return false
	}
	p.entries++
	return true
}

func (p *picked) complainOfMissing(cmd *cobra.Command) (err error) {
	for _, id := range slices.Sorted(maps.Keys(p.ids)) {
		if !p.ids[id] {
			complain(cmd, id, errors.New("there is nothing with this id; see poller spool ls"))
			err = errReported
		}
	}
	return err
}

// look returns what is picked, without the bodies, and sums up all that there is.
func (p *picked) look(dir string) (entries []spool.Entry, sum spoolSum, err error) {
	err = spool.Look(dir, func(e spool.Entry) error {
		sum.add(&e)
		if p.take(&e) {
			e.Body = nil
			entries = append(entries, e)
		}
		return nil
	})
	return entries, sum, err
}
