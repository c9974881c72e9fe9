package machine

import "time"

// RestartPolicy bounds how often a failed actor is started again.
type RestartPolicy struct {
	// Initial is the delay of the first restart; each further one within Window doubles it, up to Max.
	Initial, Max time.Duration
	// Budget is how many restarts there may be within Window; then the actor is parked.
	Budget int
	Window time.Duration
}

// Restarts is one actor's restart history under a policy.
type Restarts struct {
	policy RestartPolicy
	failed []time.Time // within the window, oldest first
	// parked is when the actor last failed over its budget; zero if it is not parked.
	parked time.Time
}

// NewRestarts returns an empty history.
func NewRestarts(policy RestartPolicy) *Restarts { return &Restarts{policy: policy} }

// Failed takes a failure at now and returns how long to wait before the actor is started again,
// and whether it is over its budget: parked, with one try per window until a try outlives one.
// Jitter in [0, 1) spreads the delay over its upper half, so that actors that failed together
// don't return together.
func (r *Restarts) Failed(now time.Time, jitter float64) (delay time.Duration, parked bool) {
	if !r.parked.IsZero() && now.Sub(r.parked) < 2*r.policy.Window {
		return r.park(now)
	}
	r.parked = time.Time{}
	kept := r.failed[:0]
	for _, at := range r.failed {
		if now.Sub(at) < r.policy.Window {
			kept = append(kept, at)
		}
	}
	r.failed = append(kept, now)
	if len(r.failed) > r.policy.Budget {
		r.failed = r.failed[:0]
		return r.park(now)
	}
	return Backoff(len(r.failed)-1, r.policy.Initial, r.policy.Max, jitter), false
}

func (r *Restarts) park(now time.Time) (time.Duration, bool) {
	r.parked = now
	return r.policy.Window, true
}
