package machine

import "time"

// RestartPolicy bounds how often a failed actor is started again.
type RestartPolicy struct {
	// Initial is the delay of the first restart; each further one within Window doubles it, up to Max.
	Initial, Max time.Duration
	// Budget is how many restarts there may be within Window; then the actor is parked. The window
	// is time in which the actor ran: else the delays themselves, as they grow, would keep one
	// that always fails at once within its budget.
	Budget int
	Window time.Duration
}

// Restarts is one actor's restart history under a policy.
type Restarts struct {
	policy RestartPolicy
	failed []time.Time   // within the window, oldest first, on a clock that runs with the actor
	waited time.Duration // what that clock is behind: the sum of all delays
	// parked is when the actor last failed over its budget; zero if it is not parked.
	parked time.Time
}

// NewRestarts returns an empty history.
func NewRestarts(policy RestartPolicy) *Restarts { return &Restarts{policy: policy} }

// SetPolicy changes the policy from the next failure on.
func (r *Restarts) SetPolicy(policy RestartPolicy) { r.policy = policy }

// Failed takes a failure at now and returns how long to wait before the actor is started again,
// and whether it is over its budget: parked, with one try per window until a try outlives one.
// Jitter in [0, 1) spreads the delay over its upper half, so that actors that failed together
// don't return together.
func (r *Restarts) Failed(now time.Time, jitter float64) (delay time.Duration, parked bool) {
	if !r.parked.IsZero() && now.Sub(r.parked) < 2*r.policy.Window {
		return r.park(now)
	}
	r.parked = time.Time{}
	ran := now.Add(-r.waited)
	kept := r.failed[:0]
	for _, at := range r.failed {
		if ran.Sub(at) < r.policy.Window {
			kept = append(kept, at)
		}
	}
	r.failed = append(kept, ran)
	if len(r.failed) > r.policy.Budget {
		r.failed = r.failed[:0]
		return r.park(now)
	}
	delay = Backoff(len(r.failed)-1, r.policy.Initial, r.policy.Max, jitter)
	r.waited += delay
	return delay, false
}

func (r *Restarts) park(now time.Time) (time.Duration, bool) {
	r.parked = now
	r.waited += r.policy.Window
	return r.policy.Window, true
}
