package transport

import (
	"context"
	"time"
)

// even is a context whose deadline a checker is told in even steps. gRPC tells it with each call, and each value that is told
// both ends of the connection remember (HPACK), up to 4 KiB of them: if all differ that is by far the most that an idle
// connection takes. The deadline itself stays as it is; the checker's is at most a step after it. Not before it: when all calls to a
// checker that hangs run out at the same time, its server would say so of each, which takes more than to give them up.
type even struct{ context.Context }

const (
	evenStep = 10 * time.Millisecond
	evenFrom = 100 * evenStep // of less than that, a step would be much
)

// Deadline returns the deadline, or one shortly after it that is some steps from now. gRPC asks in the moment in which it
// writes how long that is.
func (e even) Deadline() (time.Time, bool) {
	deadline, ok := e.Context.Deadline()
	now := time.Now()
	if left := deadline.Sub(now); ok && left >= evenFrom {
		return now.Add(left.Truncate(evenStep) + evenStep), true
	}
	return deadline, ok
}

func inEvenSteps(ctx context.Context) context.Context { return even{ctx} }
