// Package conformance finds out whether a checker, in whatever language, keeps to the contract with
// pollers. It knows nothing but what comes over the connection.
//
// Guarantees:
//   - Every test ends: each call has the target's timeout as its deadline, and no test has more than a
//     few one after the other.
//   - A test that fails does not keep others from being run; each says what was found, and what to
//     change.
//   - When Run returns, no call and no connection of it is left.
package conformance

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/transport"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Target is the checker to be tested, and a check of it that should work.
type Target struct {
	// Address is the host:port of its gRPC server.
	Address string
	// TLS is the identity for the connection; the zero TLS means plaintext.
	TLS check.TLS
	// Type and Details are of a check whose target is available.
	Type, Details string
	// Results is the type of a check that has results; empty if none has.
	Results string
	// Timeout is the deadline of each call.
	Timeout time.Duration
}

// Outcome is what a test came to.
type Outcome string

// The outcomes.
const (
	// Passed: nothing to change.
	Passed Outcome = "passed"
	// Advice: pollers can live with it.
	Advice Outcome = "advice"
	// Failed: pollers report this check, or the whole checker, as broken.
	Failed Outcome = "failed"
)

// Finding is what one test came to.
type Finding struct {
	Test    string  `json:"test"`
	Outcome Outcome `json:"outcome"`
	// Found says what the checker did; its own words are quoted.
	Found string `json:"found"`
	// Advice says what to change; empty if Passed.
	Advice string `json:"advice,omitempty"`
}

func passed(format string, args ...any) Finding {
	return Finding{Outcome: Passed, Found: fmt.Sprintf(format, args...)}
}

func advise(found, advice string) Finding {
	return Finding{Outcome: Advice, Found: found, Advice: advice}
}

func failed(found, advice string) Finding {
	return Finding{Outcome: Failed, Found: found, Advice: advice}
}

// test is one thing that is looked at.
type test struct {
	name string
	look func(context.Context, *subject) Finding
}

// tests are in the order in which they are run: what may leave a checker in a bad state comes late.
var tests = []test{
	{"a good check", goodCheck},
	{"the message", message},
	{"the response time", responseTime},
	{"names in the answer", names},
	{"health", health},
	{"an unknown type", unknownType},
	{"GetResults", getResults},
	{"StreamResults", streamResults},
	{"StreamResults, unknown type", streamUnknown},
	{"50 calls at once", atOnce},
	{"a deadline of 100ms", shortDeadline},
	{"a cancelled call", cancelled},
	{"empty details", badDetails("")},
	{"details of 64 KiB", badDetails(strings.Repeat("x", 64<<10))},
	{"sizes of answers", sizes},
}

// subject is the checker under test.
type subject struct {
	Target
	conn   *grpc.ClientConn
	agent  monitoring.AgentServiceClient
	health healthpb.HealthClient

	answer  *monitoring.StatusResponse // of the good check; nil if there was none
	took    time.Duration              // until it came
	largest int                        // answer so far, in bytes
}

// Run connects, runs all tests one after the other and returns what they came to. The error, a
// *check.Failure or one about the TLS files, says why there is no connection.
func Run(ctx context.Context, t Target) ([]Finding, error) {
	if err := connect(ctx, t); err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	host, _, _ := net.SplitHostPort(t.Address) // a connection has been made
	config, err := tlsid.Client(t.TLS, host)
	if err != nil {
		return nil, err
	}
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+t.Address, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxLook)))
	if err != nil {
		return nil, fmt.Errorf("can't connect to %s: %w", t.Address, err)
	}
	defer func() { _ = conn.Close() }()
	s := &subject{Target: t, conn: conn, agent: monitoring.NewAgentServiceClient(conn), health: healthpb.NewHealthClient(conn)}
	var findings []Finding
	for _, test := range tests {
		f := test.look(ctx, s)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f.Test = test.name
		findings = append(findings, f)
	}
	return findings, nil
}

// connect has the poller's own client connect, which knows what can be wrong with a connection.
func connect(ctx context.Context, t Target) error {
	client, err := transport.NewChecker(&check.Agent{Name: agentName, Address: t.Address, TLS: t.TLS}, transport.CheckerConfig{PollerID: pollerName})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	return client.Connect(ctx)
}

const (
	// agentName, checkName and pollerName are whom the checker is asked by, and for what.
	agentName, checkName, pollerName = "conformance-agent", "conformance-check", "conformance-poller"
	// maxMessage is what pollers take in one message, if they are not configured to take more; in bytes.
	maxMessage = 4 << 20
	// maxLook is what is taken here, so that it can be said how large an answer was.
	maxLook = 64 << 20
)

// ask asks for a check of a type, on a connection that is made again if need be.
func (s *subject) ask(ctx context.Context, checkType, details string) (*monitoring.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	r, err := s.agent.GetStatus(ctx, &monitoring.StatusRequest{
		ServiceName: checkName, ServiceType: checkType, Details: details, AgentId: agentName, PollerId: pollerName,
	}, grpc.WaitForReady(true))
	s.largest = max(s.largest, proto.Size(r))
	return r, err
}

// well asks for the good check again, after something was done to the checker.
func (s *subject) well(ctx context.Context, after string) (Finding, bool) {
	if _, err := s.ask(ctx, s.Type, s.Details); err != nil {
		f := s.broken("the good check after "+after, err)
		f.Advice = "one call must not harm the next: " + f.Advice
		return f, false
	}
	return Finding{}, true
}

// broken says what an error of a call means for a checker that should have answered.
func (s *subject) broken(call string, err error) Finding {
	found := fmt.Sprintf("%s: %s", call, saying(err))
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		if s.conn.GetState() != connectivity.Ready {
			return failed(fmt.Sprintf("%s: no connection within %v", call, s.Timeout), "the checker is gone: see what failed first, and its log")
		}
		return failed(fmt.Sprintf("%s: no answer within %v", call, s.Timeout),
			"answer before the call's deadline, also when the target does not: give what you ask it a shorter one, and serve calls side by side")
	case codes.Unavailable:
		return failed(found, "the checker ended or cut the connection: catch what goes wrong in a call, and see the checker's log")
	case codes.Unknown, codes.Internal:
		return failed(found, "catch exceptions and panics, and answer available=false with the reason as the message, {\"error\": \"…\"}")
	case codes.Unimplemented:
		return failed(found, "implement GetStatus of monitoring.AgentService, package and names as in the .proto file")
	case codes.ResourceExhausted:
		return failed(found, fmt.Sprintf("let answers be far below %d bytes, and as many calls run at once as are asked", maxMessage))
	default:
		return failed(found, "answer available=false with the reason as the message instead of an error: pollers take errors for a broken checker")
	}
}

// saying quotes an error of the checker's.
func saying(err error) string {
	return fmt.Sprintf("%v %s", status.Code(err), quote([]byte(status.Convert(err).Message())))
}

// quote quotes as much of what the checker said as fits on a line, and nothing that a terminal would obey.
func quote(text []byte) string {
	const most = 120
	if len(text) > most {
		return fmt.Sprintf("%+q …", text[:most])
	}
	return fmt.Sprintf("%+q", text)
}
