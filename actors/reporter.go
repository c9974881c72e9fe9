package actors

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/wire"
)

// A delivery that failed is tried again after at first retryInitial, at most retryMax.
const (
	retryInitial = 100 * time.Millisecond
	retryMax     = 5 * time.Second
)

// reporter takes reports into the spool and delivers them to core, strictly in order, one call in
// flight. The spool outlives it, so a restart goes on where it was.
type reporter struct {
	env         *env
	incarnation uint64
	self        *actor.PID

	ctx    context.Context
	cancel context.CancelFunc

	sending bool // a call is in flight, or the next try has its time
	// report is the oldest report's id, parts are what of it core has not acknowledged: itself, or what
	// it was split into because core found it too large.
	report   string
	parts    []wire.Delivery
	attempts int // failed ones since the last success
	refused  int // of these, those of the first part that core found too large
	timer    *time.Timer

	finishing bool // root waits to hear that there is nothing more to deliver
}

func newReporter(e *env, incarnation uint64, self *actor.PID) *reporter {
	r := &reporter{env: e, incarnation: incarnation, self: self}
	r.ctx, r.cancel = context.WithCancel(e.ctx)
	return r
}

func (r *reporter) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		r.deliverNext()
	case take:
		r.take(m.report)
	case delivered:
		r.delivered(m)
	case retryDue:
		if m.incarnation == r.incarnation {
			r.sending = false
			r.deliverNext()
		}
	case finish:
		r.finishing = true
		r.deliverNext()
	case *actor.Stopping:
		r.stop()
	}
}

func (r *reporter) stop() {
	r.cancel()
	if r.timer != nil {
		r.timer.Stop()
	}
}

// take keeps a report safe and says so. If it can't, it stays silent, and the poller sends it again.
func (r *reporter) take(rep report) {
	tooOld, noRoom, err := r.env.Spool.Append(rep.id, rep.time, rep.body)
	for _, id := range tooOld {
		r.env.Observe(ReportDropped{ID: id, Cause: "core did not take it within spool.max_age"})
	}
	for _, id := range noRoom {
		r.env.Observe(ReportDropped{ID: id, Cause: "the queue of reports for core is full: spool.max_bytes"})
	}
	if err != nil {
		r.env.Observe(SpoolFailed{ID: rep.id, Err: err})
		return
	}
	r.env.send(r.env.poller, taken{id: rep.id, dropped: slices.Contains(noRoom, rep.id)})
	kept, _ := r.env.Spool.Kept()
	r.env.Observe(ReportTaken{ID: rep.id, Kept: kept})
	r.deliverNext()
}

// deliverNext sends the oldest report, or what is left of it, unless something is on its way already.
func (r *reporter) deliverNext() {
	if r.sending {
		return
	}
	if len(r.parts) == 0 {
		id, body, ok := r.env.Spool.Next()
		if !ok {
			if r.finishing {
				r.env.send(r.env.root, finished{})
			}
			return
		}
		r.report, r.parts = id, []wire.Delivery{{ID: id, Body: body, Limit: r.env.Identity.MaxMessage}}
	}
	r.sending = true
	part := r.parts[0]
	m := delivered{incarnation: r.incarnation, id: part.ID}
	r.env.call(r.self, func() any {
		began := time.Now()
		m.err = r.env.Core.Deliver(r.ctx, part)
		m.took = time.Since(began)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

func (r *reporter) delivered(m delivered) {
	if m.incarnation != r.incarnation {
		// A predecessor's success is a success, if it was not with a part only; its failure is nothing to us.
		if m.err == nil {
			r.env.Spool.Ack(m.id)
			r.tellDelivered(m)
		}
		return
	}
	outcome := wire.Judge(m.err)
	if wire.Exhausted(m.err) {
		outcome = r.shrink()
	}
	switch outcome {
	case wire.Delivered:
		r.done()
		r.attempts = 0
		r.tellDelivered(m)
	case wire.SetAside:
		r.done()
		r.tellFailed(m, outcome, 0)
	case wire.Retry, wire.Hold:
		delay := machine.Backoff(r.attempts, retryInitial, retryMax, rand.Float64()) //nolint:gosec // jitter is no secret.
		r.attempts++
		r.tellFailed(m, outcome, delay)
		r.timer = r.env.after(delay, r.self, retryDue{incarnation: r.incarnation})
		return
	}
	r.sending = false
	r.deliverNext()
}

// shrink makes what core found too large smaller if that was not the first time, and says what to do.
// The pauses between tries go on growing: core may also be short of something else for a while.
func (r *reporter) shrink() wire.Outcome {
	if r.refused++; r.refused < wire.RefusedTwice {
		return wire.Retry
	}
	smaller, ok := r.parts[0].Smaller()
	if !ok {
		if r.parts[0].Small() && r.refused < wire.RefusedForGood {
			return wire.Retry
		}
		return wire.SetAside
	}
	r.env.Observe(ReportSplit{ID: r.parts[0].ID, Parts: len(smaller), Limit: smaller[0].Limit})
	r.refused = 0
	r.parts = append(smaller, r.parts[1:]...)
	return wire.Retry
}

// done goes on to the next part, or lets the report go if it was the last.
func (r *reporter) done() {
	r.refused = 0
	if r.parts = r.parts[1:]; len(r.parts) == 0 {
		r.env.Spool.Ack(r.report)
	}
}

func (r *reporter) tellDelivered(m delivered) {
	kept, _ := r.env.Spool.Kept()
	r.env.Observe(ReportDelivered{ID: m.id, Took: m.took, Kept: kept})
}

func (r *reporter) tellFailed(m delivered, outcome wire.Outcome, retryIn time.Duration) {
	kept, _ := r.env.Spool.Kept()
	attempt := r.attempts
	if outcome == wire.SetAside {
		attempt++
	}
	r.env.Observe(DeliveryFailed{ID: m.id, Outcome: outcome, Err: m.err, Attempt: attempt, RetryIn: retryIn, Kept: kept})
}
