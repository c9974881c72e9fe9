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

// appendReport keeps a report safe.
func (e *env) appendReport(rep *report, m *appended) {
	tooOld, noRoom, err := e.Spool.Append(rep.id, rep.time, rep.body, rep.state())
	for _, id := range tooOld {
		e.Observe(ReportDropped{ID: id, Cause: "core did not take it within spool.max_age"})
	}
	for _, id := range noRoom {
		e.Observe(ReportDropped{ID: id, Cause: "the queue of reports for core is full: spool.max_bytes"})
	}
	m.dropped, m.err = slices.Contains(noRoom, rep.id), err
	m.kept, _ = e.Spool.Kept()
}

// deliver delivers a part, or the oldest report if m has none, and lets the report go when core has all of it.
func (e *env) deliver(ctx context.Context, m *delivered) error {
	return e.inTurn(ctx, func() error {
		if m.report == "" {
			id, body, ok, err := e.Spool.Next()
			if ok && id == m.atCore {
				e.Spool.Ack(id)
				m.atCore = ""
				id, body, ok, err = e.Spool.Next()
			}
			if err != nil || !ok {
				return err
			}
			m.report, m.part = id, wire.Delivery{ID: id, Body: body, Limit: e.Identity.MaxMessage}
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

// deliverMeanwhile delivers a report that is being appended, and lets it go when it has been.
func (e *env) deliverMeanwhile(ctx context.Context, m *delivered, appended <-chan struct{}) error {
	return e.inTurn(ctx, func() error {
		began := time.Now()
		err := e.Core.Deliver(ctx, m.part)
		m.took = time.Since(began)
		<-appended
		id, _, ok, unread := e.Spool.Next() // so that it is not dropped while it is tried again
		if unread != nil || !ok || id != m.report { // it could not be kept, or not be read
			if err == nil {
				m.atCore = m.report
			}
			m.report = ""
			return unread
		}
		if err == nil {
			e.Spool.Ack(id)
		}
		m.kept, _ = e.Spool.Kept()
		return err
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
			ID: refused.part.ID, Outcome: wire.SetAside, Err: refused.err, Lost: lost, Attempt: attempt, Kept: kept,
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
