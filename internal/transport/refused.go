package transport

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// mostTries bounds how often a call is tried that a server which is going away refuses.
const mostTries = 5

// refused tells whether an error says that the server had the connection end (GOAWAY) before it looked
// at the call, so that it can be made again without being made twice. gRPC itself makes it again, but
// once only, not if it is large, and never on a connection that is to be the only one.
func refused(err error) bool {
	if status.Code(err) != codes.Unavailable {
		return false
	}
	said := status.Convert(err).Message()
	for _, words := range []string{errOver.Error(), "the connection is draining", "rejected because server is draining"} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return false
}

// insist makes a call again while it is refused, at most mostTries times in all.
func insist(ctx context.Context, do func() error) error {
	err := do()
	for tries := 1; tries < mostTries && refused(err) && ctx.Err() == nil; tries++ {
		err = do()
	}
	return err
}
