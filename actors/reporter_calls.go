package actors

import (
	"context"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/wire"
)

// What the reporter's calls do. They may take as long as the disk does and outlive the reporter, so what must
// follow from what they did is done here, and what was lost is told here: the message that tells the
// reporter may find nobody.

// appendReports keeps reports safe, in order, until one fails.
func (e *env) appendReports(reports []report, m *appended) {
	for i := range reports {
		rep := &reports[i]
		m.failed = rep.id // should it panic
		tooOld, noRoom, err := e.Spool.Append(rep.id, rep.time, rep.body, rep.state())
		for _, id := range tooOld {
			e.Observe(ReportDropped{ID: id, Loss: LostTooOld, Cause: "core did not take it within spool.max_age"})
		}
		for _, id := range noRoom {
			e.Observe(ReportDropped{ID: id, Loss: LostNoRoom, Cause: "there was no room for it: spool.max_bytes, or memory while the disk can't be written"})
		}
		if m.err = err; err != nil {
			return
		}
		k := kept{id: rep.id, dropped: slices.Contains(noRoom, rep.id)}
		k.reports, _ = e.Spool.Kept()
		m.kept = append(m.kept, k)
	}
}

// deliver delivers a part, or the oldest report if m has none, and lets the report go when core has all of it.
func (e *env) deliver(ctx context.Context, m *delivered) error {
	return e.inTurn(ctx, func() error {
		if m.report == "" {
			id, body, ok, err := e.Spool.Next()
			for ok && slices.Contains(m.atCore, id) {
				e.Spool.Ack(id)
				m.atCore = slices.DeleteFunc(slices.Clone(m.atCore), func(other string) bool { return other == id })
				id, body, ok, err = e.Spool.Next()
			}
			if err != nil || !ok {
				return err
			}
			m.report, m.part = id, wire.Delivery{ID: id, Body: body, Limit: e.identity().MaxMessage}
		}
		began := time.Now()
		err := e.Core.Deliver(ctx, m.part)
		m.took = time.Since(began)
		if err == nil && m.last {
			e.Spool.Ack(m.report)
		}
		m.kept, _ = e.Spool.Kept()
		return err
	})
}

// deliverMeanwhile delivers reports that are being appended, and lets them go when they have been. In m and the
// error is the one that core did not take.
func (e *env) deliverMeanwhile(ctx context.Context, reports []report, m *delivered, appended <-chan struct{}) error {
	return e.inTurn(ctx, func() error {
		var took []time.Duration
		var failed error
		for i := 0; i < len(reports) && failed == nil; i++ {
			m.part = wire.Delivery{ID: reports[i].id, Body: reports[i].body, Limit: e.identity().MaxMessage}
			began := time.Now()
			failed = e.Core.Deliver(ctx, m.part)
			took = append(took, time.Since(began))
		}
		<-appended
		for i, t := range took {
			id, _, ok, unread := e.Spool.Next() // that which is tried again is not to be dropped meanwhile
			inSpool := unread == nil && ok && id == reports[i].id
			switch last := i == len(took)-1; {
			case last && failed != nil && inSpool:
				m.report, m.took = id, t
			case last && failed != nil: // it could not be kept, or not be read
				return unread
			case inSpool:
				e.Spool.Ack(id)
			default:
				m.atCore = append(slices.Clone(m.atCore), reports[i].id)
			}
			m.kept, _ = e.Spool.Kept()
			if m.report == "" {
				m.meanwhile = append(m.meanwhile, ReportDelivered{ID: reports[i].id, Took: t, Kept: m.kept})
			}
		}
		return failed
	})
}

// putAside puts aside what core refused for good, tells so, and lets the report go if nothing is left of it.
// Done says that this was not in vain.
func (e *env) putAside(ctx context.Context, refused *delivered, attempt int, done *bool) error {
	return e.inTurn(ctx, func() error {
		lost := e.Spool.SetAside(refused.part.ID, refused.part.Body, refused.err.Error())
		if refused.last {
			e.Spool.Ack(refused.report)
		}
		*done = true
		kept, _ := e.Spool.Kept()
		e.Observe(DeliveryFailed{
			ID: refused.part.ID, Outcome: wire.SetAside, Err: refused.err, Lost: lost, Took: refused.took, Attempt: attempt, Kept: kept,
		})
		return nil
	})
}

// inTurn works when no earlier call of this kind is under way; not at all if ctx has ended by then, for
// the reporter that wanted it is gone, and its successor may see things differently.
func (e *env) inTurn(ctx context.Context, work func() error) error {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return work()
}
