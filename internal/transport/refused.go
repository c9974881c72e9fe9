package transport

import (
	"context"
	"errors"
	"io"
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

var errDraining = status.Error(codes.Unavailable, "the connection is draining")

// insist makes a call again while it is refused, at most mostTries times in all. Answered tells whether
// the peer itself has ended the last try: then it has seen it, though its words may sound like a refusal,
// as a proxy's do that has them from elsewhere. An io.EOF from do means that nothing was said at all: that
// is what gRPC makes of a second refusal that comes while it has the call on its way.
func insist(ctx context.Context, answered func() bool, do func() error) error {
	for tries := 1; ; tries++ {
		err := do()
		if errors.Is(err, io.EOF) {
			err = errDraining
		}
		if tries == mostTries || !refused(err) || answered() || ctx.Err() != nil {
			return err
		}
	}
}
