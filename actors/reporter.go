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
// flight. The spool outlives it, so a restart goes on where it was. What it asks of the spool, which may
// block, runs in calls (reporter_calls.go).
type reporter struct {
	env         *env
	incarnation uint64
	self        *actor.PID

	ctx    context.Context
	cancel context.CancelFunc

	// appending are the reports that are on their way into the spool, next those that wait for that.
	appending []report
	next      take

	sending  bool // a call is in flight, or the next try has its time
	retrying bool // of these, the latter
	more     bool // something was appended since the spool was last asked for its oldest report
	// idle: there is nothing in the spool, and nothing on its way into it but what this reporter appends. It
	// knows that after an append of its own: a predecessor's would have come before.
	idle, own bool
	// atCore are reports that were delivered while they were to be appended, which failed: they are let go when
	// they come.
	atCore []string
	// report is the oldest report's id, parts are what of it core has not acknowledged: itself, or what
	// it was split into because core found it too large. Nothing while the spool is yet to be asked.
	report   string
	parts    []wire.Delivery
	attempts int // failed ones since the last success
	refused  int // of these, those of the first part that core found too large
	timer    *time.Timer

	finishing bool // root waits to hear that there is nothing more to deliver
	asking    bool // whether it would be lost: a call is in flight
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
		r.take(m)
	case appended:
		r.appended(m)
	case delivered:
		r.delivered(m)
	case setAside:
		r.setAside(m)
	case retryDue:
		if m.incarnation == r.incarnation {
			r.sending, r.retrying = false, false
			r.deliverNext()
		}
	case finish:
		r.finishing = true
		r.deliverNext()
		r.askSafe()
	case safeTold:
		r.safeTold(m)
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

// take begins to keep reports safe. Those of one cycle at a time: the same again are ignored, because the poller sends
// them once more if need be, and others wait. There are never two cycles that wait: the poller sends
// one only when it has given up, and told as lost, those before.
func (r *reporter) take(m take) {
	switch {
	case len(r.appending) == 0:
		r.append(m)
	case !slices.ContainsFunc(r.appending, func(rep report) bool { return rep.id == m.reports[0].id }):
		r.next = m
	}
}

func (r *reporter) append(t take) {
	r.appending = t.reports
	m := appended{incarnation: r.incarnation}
	done := make(chan struct{})
	r.env.call(r.self, func() any {
		defer close(done)
		r.env.appendReports(t.reports, &m)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
	if r.idle && !r.sending && !t.again {
		r.deliverMeanwhile(t.reports, done)
	}
	r.idle = false
}

// deliverMeanwhile delivers reports that are being appended to an empty spool, so that core need not wait for
// the disk. Should the process end meanwhile, core has them, or they are lost as if their cycle had been open.
func (r *reporter) deliverMeanwhile(reports []report, appended <-chan struct{}) {
	r.sending = true
	m := delivered{incarnation: r.incarnation, last: true, atCore: r.atCore}
	r.env.call(r.self, func() any {
		m.err = r.env.deliverMeanwhile(r.ctx, reports, &m, appended)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

// appended says that reports are safe. What is not it does not speak of, and the poller sends it again.
func (r *reporter) appended(m appended) {
	if m.incarnation == r.incarnation {
		r.appending, r.own = nil, r.own || m.err == nil
		if next := r.next; len(next.reports) > 0 {
			r.next = take{}
			r.append(next)
		}
	}
	for _, k := range m.kept { // also if a predecessor kept it
		said := taken{id: k.id, dropped: k.dropped}
		r.env.send(r.env.poller, said)
		r.env.send(r.env.root, said)
		r.env.Observe(ReportTaken{ID: k.id, Kept: k.reports})
	}
	if m.err != nil && m.incarnation == r.incarnation {
		r.env.Observe(SpoolFailed{ID: m.failed, Err: m.err})
	}
	r.more = true
	r.deliverNext()
	r.askSafe()
}

// deliverNext sends the oldest report, or what is left of it, unless something is on its way already.
func (r *reporter) deliverNext() {
	if r.sending {
		return
	}
	m := delivered{incarnation: r.incarnation, last: len(r.parts) <= 1, atCore: r.atCore}
	if len(r.parts) > 0 {
		m.report, m.part = r.report, r.parts[0]
	} else {
		r.more = false
	}
	r.sending = true
	r.env.call(r.self, func() any {
		m.err = r.env.deliver(r.ctx, &m)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

func (r *reporter) delivered(m delivered) {
	for _, e := range m.meanwhile {
		r.env.Observe(e)
	}
	if m.incarnation != r.incarnation {
		// A predecessor's success is a success; its failure is nothing to us.
		if m.err == nil && m.report != "" {
			r.tellDelivered(m)
		}
		return
	}
	if r.atCore = m.atCore; m.report == "" {
		r.nothingRead(m.err)
		return
	}
	if len(r.parts) == 0 {
		r.report, r.parts = m.report, []wire.Delivery{m.part}
	}
	outcome := wire.Judge(m.err)
	if wire.Exhausted(m.err) {
		outcome = r.shrink()
	}
	switch outcome {
	case wire.Delivered:
		r.attempts = 0
		r.tellDelivered(m)
		r.goOn()
	case wire.SetAside:
		r.putAside(m)
	case wire.Retry, wire.Hold:
		r.tryAgain(m, outcome)
	}
}

// nothingRead goes on when the spool has no report, or none that can be read for now.
func (r *reporter) nothingRead(err error) {
	if err != nil {
		delay := r.backOff()
		r.env.Observe(SpoolUnreadable{Err: err, RetryIn: delay})
		r.retryIn(delay)
		return
	}
	r.sending, r.attempts = false, 0
	switch {
	case r.more:
		r.deliverNext()
		return
	case r.finishing && len(r.appending) == 0:
		r.env.send(r.env.root, finished{})
	}
	r.idle = r.own && len(r.appending) == 0
}

// goOn goes on to what is left when the first part is done with.
func (r *reporter) goOn() {
	r.refused = 0
	r.parts = slices.Delete(r.parts, 0, 1) // so that its memory is free
	r.sending = false
	r.deliverNext()
}

// putAside lets go of the first part, which core will never take.
func (r *reporter) putAside(refused delivered) {
	m := setAside{incarnation: r.incarnation}
	attempt := r.attempts + 1
	r.env.call(r.self, func() any {
		m.err = r.env.putAside(r.ctx, &refused, attempt, &m.done)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
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

// setAside goes on when the first part is put aside.
func (r *reporter) setAside(m setAside) {
	switch {
	case m.incarnation != r.incarnation: // our calls came after it, and saw what it left
	case m.done:
		r.goOn()
	default: // it panicked, which was told; the part is still there
		r.tryAgain(delivered{part: r.parts[0], err: m.err}, wire.Retry)
	}
}

// tryAgain does what failed again after a while.
func (r *reporter) tryAgain(m delivered, outcome wire.Outcome) {
	delay := r.backOff()
	r.env.Observe(DeliveryFailed{ID: m.part.ID, Outcome: outcome, Err: m.err, Took: m.took, Attempt: r.attempts, RetryIn: delay, Kept: m.kept})
	r.retryIn(delay)
}

// backOff returns how long to wait after one more failure.
func (r *reporter) backOff() time.Duration {
	r.attempts++
	return machine.Backoff(r.attempts-1, retryInitial, retryMax, rand.Float64()) //nolint:gosec // jitter is no secret.
}

func (r *reporter) retryIn(delay time.Duration) {
	r.retrying = true
	r.timer = r.env.after(delay, r.self, retryDue{incarnation: r.incarnation})
	r.askSafe()
}

// askSafe asks, when root waits and core does not take what is kept, whether the process may end without
// losing it. It asks again after each failure, unless it may.
func (r *reporter) askSafe() {
	if !r.finishing || !r.retrying || r.asking || len(r.appending) > 0 {
		return
	}
	r.asking = true
	m := safeTold{incarnation: r.incarnation}
	r.env.call(r.self, func() any {
		m.err = r.env.Spool.Safe()
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

func (r *reporter) safeTold(m safeTold) {
	if m.incarnation != r.incarnation {
		return
	}
	r.asking = false
	if m.err == nil && r.retrying {
		r.env.send(r.env.root, finished{})
	}
}

func (r *reporter) tellDelivered(m delivered) {
	r.env.Observe(ReportDelivered{ID: m.part.ID, Took: m.took, Kept: m.kept})
}
