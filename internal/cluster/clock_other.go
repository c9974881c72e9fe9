//go:build !linux

package cluster

import "time"

// sinceBoot is Linux's alone. Elsewhere a machine that wakes up may hold a lease for as long as it had left when it fell asleep.
func sinceBoot() (time.Duration, bool) { return 0, false }
