package actors

import (
	"context"
	"math/rand/v2"
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

	sending  bool // a call is in flight, or the next try has its time
	attempts int  // failed ones of the oldest report
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
	dropped, err := r.env.Spool.Append(rep.id, rep.time, rep.body)
	for _, id := range dropped {
		r.env.Observe(ReportDropped{ID: id, Cause: "the queue of reports for core is full, or the report is too old"})
	}
	if err != nil {
		r.env.Observe(SpoolFailed{ID: rep.id, Err: err})
		return
	}
	r.env.send(r.env.poller, taken{id: rep.id})
	kept, _ := r.env.Spool.Kept()
	r.env.Observe(ReportTaken{ID: rep.id, Kept: kept})
	r.deliverNext()
}

// deliverNext sends the oldest report unless one is on its way already.
func (r *reporter) deliverNext() {
	if r.sending {
		return
	}
	id, body, ok := r.env.Spool.Next()
	if !ok {
		if r.finishing {
			r.env.send(r.env.root, finished{})
		}
		return
	}
	r.sending = true
	m := delivered{incarnation: r.incarnation, id: id}
	r.env.call(r.self, func() any {
		began := time.Now()
		m.err = r.env.Core.Deliver(r.ctx, id, body)
		m.took = time.Since(began)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

func (r *reporter) delivered(m delivered) {
	outcome := wire.Judge(m.err)
	// A predecessor's success is a success; its failure is nothing to us.
	if m.incarnation != r.incarnation && outcome != wire.Delivered {
		return
	}
	switch outcome {
	case wire.Delivered, wire.SetAside:
		r.env.Spool.Ack(m.id)
	case wire.Retry, wire.Hold:
	}
	kept, _ := r.env.Spool.Kept()
	if outcome == wire.Delivered {
		r.env.Observe(ReportDelivered{ID: m.id, Took: m.took, Kept: kept})
	}
	if m.incarnation != r.incarnation {
		return
	}
	if outcome == wire.Delivered || outcome == wire.SetAside {
		if outcome == wire.SetAside {
			r.env.Observe(DeliveryFailed{ID: m.id, Outcome: outcome, Err: m.err, Attempt: r.attempts + 1, Kept: kept})
		}
		r.attempts, r.sending = 0, false
		r.deliverNext()
		return
	}
	delay := machine.Backoff(r.attempts, retryInitial, retryMax, rand.Float64()) //nolint:gosec // jitter is no secret.
	r.attempts++
	r.env.Observe(DeliveryFailed{ID: m.id, Outcome: outcome, Err: m.err, Attempt: r.attempts, RetryIn: delay, Kept: kept})
	r.timer = r.env.after(delay, r.self, retryDue{incarnation: r.incarnation})
}
