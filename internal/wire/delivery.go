package wire

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ReportIDKey is the metadata key under which a report's id goes along, so that a core that
// knows it can discard what it already has.
const ReportIDKey = "poller-report-id"

// ErrNotReceived is core's answer received=false.
var ErrNotReceived = errors.New("core answered received=false: it did not take the report")

// ErrUnprepared is a delivery that could not even be tried, for a fault on our side: TLS files
// that are missing or of no use.
var ErrUnprepared = errors.New("can't prepare the connection")

// Outcome says what to do about an answer to a delivery.
type Outcome int

// The outcomes.
const (
	// Delivered: core has it.
	Delivered Outcome = iota
	// Retry: the same report again, before any later one.
	Retry
	// Hold: as Retry, but time alone will not mend it; a person must.
	Hold
	// SetAside: core will never take this report; go on with the next.
	SetAside
)

func (o Outcome) String() string {
	return [...]string{"delivered", "retry", "hold", "set aside"}[o]
}

// RefusedTwice is how often core may answer ResourceExhausted to a delivery before it is made smaller:
// it may be busy, or it may not take messages of that size.
const RefusedTwice = 2

// RefusedForGood is how often core may answer ResourceExhausted to what can't be made smaller and is
// small already, before it is set aside: size can hardly be the cause, and with the pauses between tries
// a core that is short of something has about a minute to recover.
const RefusedForGood = 20

// Exhausted tells whether core refused a delivery for want of resources, which its size may be.
func Exhausted(err error) bool { return err != nil && status.Code(err) == codes.ResourceExhausted }

// Judge sorts the error of a delivery. What is not known to be hopeless is retried: core's
// handlers return plain errors, so that even "my database is down" arrives as Unknown.
func Judge(err error) Outcome {
	if err == nil {
		return Delivered
	}
	if errors.Is(err, ErrUnprepared) {
		return Hold
	}
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return Hold
	case codes.InvalidArgument, codes.OutOfRange:
		return SetAside
	case codes.OK, codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.NotFound,
		codes.AlreadyExists, codes.ResourceExhausted, codes.FailedPrecondition, codes.Aborted,
		codes.Internal, codes.Unavailable, codes.DataLoss:
		return Retry
	}
	return Retry
}
