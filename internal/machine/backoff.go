package machine

import "time"

// Backoff returns how long to wait after n earlier failures: initial, doubled for each of them,
// at most limit. Jitter in [0, 1) spreads it over its upper half, so that what failed together
// does not try again together.
func Backoff(n int, initial, limit time.Duration, jitter float64) time.Duration {
	delay := min(initial, limit)
	for range n {
		if delay >= limit-delay { // twice that may overflow
			delay = limit
			break
		}
		delay *= 2
	}
	return delay/2 + time.Duration(jitter*float64(delay/2))
}
