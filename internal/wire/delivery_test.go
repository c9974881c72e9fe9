package wire

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	outcomes := map[codes.Code]Outcome{
		codes.OK:                 Delivered,
		codes.Canceled:           Retry,
		codes.Unknown:            Retry,
		codes.InvalidArgument:    SetAside,
		codes.DeadlineExceeded:   Retry,
		codes.NotFound:           Retry,
		codes.AlreadyExists:      Retry,
		codes.PermissionDenied:   Hold,
		codes.ResourceExhausted:  Retry,
		codes.FailedPrecondition: Retry,
		codes.Aborted:            Retry,
		codes.OutOfRange:         SetAside,
		codes.Unimplemented:      Hold,
		codes.Internal:           Retry,
		codes.Unavailable:        Retry,
		codes.DataLoss:           Retry,
		codes.Unauthenticated:    Hold,
		codes.Code(17):           Retry, // not known yet
		codes.Code(99):           Retry,
	}
	for code := range codes.Code(17) {
		if _, ok := outcomes[code]; !ok {
			t.Errorf("the table lacks %s", code)
		}
	}
	for code, want := range outcomes {
		err := status.Error(code, "because")
		if got := Judge(err); got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
		if err == nil {
			continue
		}
		for how, wrapped := range map[string]error{
			"wrapped":       fmt.Errorf("deliver to core at x: %w", err),
			"twice wrapped": fmt.Errorf("b: %w", fmt.Errorf("a: %w", err)),
			"joined":        errors.Join(err, errors.New("and the connection can't be closed")),
		} {
			if got := Judge(wrapped); got != want {
				t.Errorf("%s, %s: %s, want %s", code, how, got, want)
			}
		}
	}
	for _, err := range []error{
		ErrNotReceived, fmt.Errorf("deliver to core at x: %w", ErrNotReceived),
		errors.New("TLS file x: there is no such file"), context.DeadlineExceeded, context.Canceled,
	} {
		if got := Judge(err); got != Retry {
			t.Errorf("%v: %s, want retry", err, got)
		}
	}
}

func TestOutcomesHaveNames(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[Outcome]string{Delivered: "delivered", Retry: "retry", Hold: "hold", SetAside: "set aside"} {
		if got := outcome.String(); got != want {
			t.Errorf("outcome %d is called %q, want %q", outcome, got, want)
		}
	}
}
