package machine

import "time"

const (
	// rampSteps is after how many steps a node takes its whole share.
	rampSteps = 3
	// minRampStep and maxRampStep bound a step of a node that was not lost lately, maxFlapStep one of a node that was, again and again.
	minRampStep, maxRampStep = time.Second, 30 * time.Second
	maxFlapStep              = 5 * time.Minute
)

// Ramp says with what weight a node takes part that has gained its lease: it takes its share in steps, a quarter at first, so that what is
// wrong with its network, or with how it sees its checkers, is wrong for few agents. A node that others lose sight of again and again
// takes it the more slowly, so that fewer agents move each time.
type Ramp struct {
	weight   int // as configured
	interval time.Duration
	began    time.Time // zero until the first Restart
	step     time.Duration
}

// NewRamp returns the ramp of a node with the weight of its configuration and its poll interval. It stays at its beginning until Restart.
func NewRamp(weight int, interval time.Duration) *Ramp {
	return &Ramp{weight: weight, interval: interval}
}

// Reconfigure changes the weight at once, and the interval from the next Restart on.
func (r *Ramp) Reconfigure(weight int, interval time.Duration) {
	r.weight, r.interval = weight, interval
}

// Restart begins again at now, when the node has gained a lease. Losses is how often others have lost sight of it in the last ten minutes.
// A step lasts one poll interval, but at least 1 s and at most 30 s; each loss but the first doubles that, up to 5 minutes.
func (r *Ramp) Restart(now time.Time, losses int) {
	r.began = now
	r.step = min(max(r.interval, minRampStep), maxRampStep)
	for ; losses > 1 && r.step < maxFlapStep; losses-- {
		r.step *= 2
	}
	r.step = min(r.step, maxFlapStep)
}

// Weight returns the weight at now in thousandths: a quarter of the configured one at the beginning, and a quarter more after each step.
func (r *Ramp) Weight(now time.Time) int {
	steps := 0
	for at := r.began; steps < rampSteps && !r.began.IsZero(); steps++ {
		if at = at.Add(r.step); now.Before(at) {
			break
		}
	}
	return r.weight * 1000 * (1 + steps) / (1 + rampSteps)
}
