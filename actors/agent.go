package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// maxProbe bounds one look whether a checker is back.
const maxProbe = 2 * time.Second

// A call ends at its deadline; one that ends later by more than stall shows that the process stood
// still, or had no time to spare.
const (
	stall   = 250 * time.Millisecond
	stalled = "no status came for this run in time: the poller itself stood still or is overloaded"
)

// agent owns one checker: the connection to it, its breaker, and its runs. For each run that it
// is given the poller gets exactly one settled.
type agent struct {
	env         *env
	incarnation uint64
	self        *actor.PID
	spec        *check.Agent

	ctx    context.Context // ends with this incarnation, and its calls with it
	cancel context.CancelFunc

	client  Checker // nil until it could be made
	breaker *machine.Breaker
	// cause is the failure that last counted for the breaker.
	cause string
	// busy are the checks with a run that is not settled.
	busy map[*check.Check]bool
	// waiting are the runs that wait for the half-open breaker's trial.
	waiting []check.Run
	// last is what each check's last status was, for telling changes.
	last map[*check.Check]verdict
	// greeted is the connection whose health was asked.
	greeted uint64
	probe   *time.Timer
}

type verdict struct {
	available bool
	reason    check.Reason
}

func newAgent(e *env, incarnation uint64, self *actor.PID, spec *check.Agent) *agent {
	state := machine.Closed
	if incarnation > 1 {
		state = machine.HalfOpen
	}
	a := &agent{
		env: e, incarnation: incarnation, self: self, spec: spec,
		breaker: machine.NewBreaker(e.Config.Breaker.Failures, state),
		busy:    make(map[*check.Check]bool, len(spec.Checks)),
		last:    make(map[*check.Check]verdict, len(spec.Checks)),
	}
	a.ctx, a.cancel = context.WithCancel(e.ctx)
	return a
}

func (a *agent) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Stopping:
		a.stop()
	case runChecks:
		a.run(m.runs)
	case answered:
		if m.incarnation == a.incarnation {
			a.answered(m)
		}
	case healthTold:
		if m.incarnation == a.incarnation && m.err == nil {
			a.env.Observe(HealthTold{Agent: a.spec.Name, Health: m.health})
		}
	case probeDue:
		if m.incarnation == a.incarnation {
			a.look()
		}
	case probed:
		if m.incarnation == a.incarnation {
			a.probed(m)
		}
	}
}

func (a *agent) stop() {
	a.cancel()
	if a.probe != nil {
		a.probe.Stop()
	}
	if client := a.client; client != nil {
		a.env.calls.Go(func() { _ = client.Close() }) // nobody is left to hear of it
	}
}

// run starts runs, those with the earliest deadline first: should the first be a trial, the
// others can still wait for its outcome.
func (a *agent) run(runs []check.Run) {
	slices.SortStableFunc(runs, func(x, y check.Run) int { return x.Deadline.Compare(y.Deadline) })
	for _, run := range runs {
		if a.busy[run.Check] {
			a.tell(run.Failed(check.Overrun, "the previous call of this check has not returned: it takes longer than its interval", 0))
			continue
		}
		a.busy[run.Check] = true
		a.start(run)
	}
}

func (a *agent) start(run check.Run) {
	if err := a.dial(); err != nil {
		a.settle(run, failed(run, err, 0))
		return
	}
	permit, admission := a.breaker.Ask()
	switch admission {
	case machine.Refused:
		a.settle(run, run.Failed(check.CircuitOpen, a.refusal(), 0))
	case machine.Wait:
		a.waiting = append(a.waiting, run)
	case machine.Admitted:
		a.ask(run, permit)
	}
}

func (a *agent) dial() error {
	if a.client != nil {
		return nil
	}
	client, err := a.env.Dial(a.spec)
	if err != nil {
		return err
	}
	a.client = client
	return nil
}

func (a *agent) refusal() string {
	return fmt.Sprintf("not asked: the checker at %s failed %d times in a row and is looked for every %v; the last failure: %s",
		a.spec.Address, a.breaker.Failures(), a.env.Config.Breaker.Probe, a.cause)
}

func (a *agent) ask(run check.Run, permit machine.Permit) {
	client := a.client
	ctx, cancel := context.WithDeadline(a.ctx, run.Deadline)
	m := answered{incarnation: a.incarnation, run: run, permit: permit}
	a.env.call(a.self, func() any {
		defer cancel()
		began := time.Now()
		m.answer, m.err = client.Ask(ctx, run.Check)
		m.took, m.late = time.Since(began), time.Since(run.Deadline)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

func (a *agent) answered(m answered) {
	status := m.run.Answered(m.answer, m.took)
	if m.err != nil {
		status = failed(m.run, m.err, m.took)
	}
	if status.Reason == check.Timeout && m.late > stall {
		// That is our own doing, and says nothing of the checker.
		status = m.run.Failed(check.NoAnswer, stalled, m.took)
	}
	broken, cause := status.Reason.CheckerBroken(), "the checker answered a run"
	if broken {
		a.cause, cause = status.Detail, status.Detail
	}
	before := a.breaker.State()
	a.breaker.Report(m.permit, broken)
	a.settle(m.run, status)
	a.breakerMoved(before, cause)
	if !broken {
		a.greet()
	}
}

// failed returns the status of a run whose call failed.
func failed(run check.Run, err error, took time.Duration) check.Status {
	if f, ok := errors.AsType[*check.Failure](err); ok {
		return run.Failed(f.Reason, f.Detail, took)
	}
	return run.Failed(check.Internal, err.Error(), took)
}

// breakerMoved does what a transition of the breaker since before asks for.
func (a *agent) breakerMoved(before machine.BreakerState, cause string) {
	state := a.breaker.State()
	if state == before {
		return
	}
	a.env.Observe(BreakerChanged{Agent: a.spec.Name, From: before.String(), To: state.String(), Cause: cause})
	waiting := a.waiting
	a.waiting = nil
	switch state {
	case machine.Closed:
		for _, run := range waiting {
			a.start(run)
		}
	case machine.Open:
		for _, run := range waiting {
			a.settle(run, run.Failed(check.CircuitOpen, a.refusal(), 0))
		}
		a.probeAfter(a.env.Config.Breaker.Probe)
	case machine.HalfOpen:
	}
}

func (a *agent) probeAfter(d time.Duration) {
	a.probe = a.env.after(d, a.self, probeDue{incarnation: a.incarnation})
}

// look probes: it connects and asks for health, whose answer may be anything.
func (a *agent) look() {
	if a.breaker.State() != machine.Open {
		return
	}
	a.askHealth(min(a.env.Config.Breaker.Probe, maxProbe), func(health string, err error) any {
		return probed{incarnation: a.incarnation, health: health, err: err}
	})
	a.probeAfter(a.env.Config.Breaker.Probe)
}

func (a *agent) probed(m probed) {
	before := a.breaker.State()
	a.breaker.Probed(m.err == nil)
	a.breakerMoved(before, "the checker answers again, health: "+m.health)
}

// greet asks the checker for its health if the connection is new. It is told, and decides nothing.
func (a *agent) greet() {
	connection := a.client.Connections()
	if connection == a.greeted || a.spec.HealthService == check.NoHealth {
		return
	}
	a.greeted = connection
	a.askHealth(a.env.Config.Breaker.Probe, func(health string, err error) any {
		return healthTold{incarnation: a.incarnation, health: health, err: err}
	})
}

func (a *agent) askHealth(timeout time.Duration, message func(string, error) any) {
	client := a.client
	ctx, cancel := context.WithTimeout(a.ctx, timeout)
	a.env.call(a.self, func() any {
		defer cancel()
		return message(client.Health(ctx))
	}, func(err error) any { return message("", err) })
}

// settle gives a run of ours its status.
func (a *agent) settle(run check.Run, status check.Status) {
	delete(a.busy, run.Check)
	a.tell(status)
}

func (a *agent) tell(status check.Status) {
	now := verdict{available: status.Available, reason: status.Reason}
	if before, known := a.last[status.Check]; now != before && (known || !now.available) {
		a.env.Observe(StatusChanged{
			Agent: a.spec.Name, Check: status.Check.Name,
			Available: status.Available, Reason: status.Reason, Detail: status.Detail,
		})
	}
	a.last[status.Check] = now
	a.env.send(a.env.pid(pollerName), settled{status: status})
}
