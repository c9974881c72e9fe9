package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

func goodCheck(ctx context.Context, s *subject) Finding {
	began := time.Now()
	r, err := s.ask(ctx, s.Type, s.Details)
	s.took = time.Since(began)
	if err != nil {
		return s.broken("GetStatus", err)
	}
	s.answer = r
	if !r.GetAvailable() {
		return failed("available=false, "+quote(r.GetMessage()),
			"set available=true when the target works; if it does not, test with the --type and --details of one that does")
	}
	return passed("available in %v", s.took.Round(time.Microsecond))
}

// noAnswer is what tests of the good check's answer come to without one.
var noAnswer = failed("the good check had no answer", "first mend what the test of the good check says")

func message(_ context.Context, s *subject) Finding {
	if s.answer == nil {
		return noAnswer
	}
	text := s.answer.GetMessage()
	begin := strings.TrimLeft(string(text), " \t\r\n")
	switch {
	case begin == "":
		return advise("empty", `tell people more in the message, such as {"orders_per_minute": 17}`)
	case json.Valid(text) && begin[0] == '{':
		return passed("a JSON object")
	case json.Valid(text):
		return advise("JSON, but no object: "+quote(text), `let it be an object, {"value": 17}: only then core is told the target's address in it`)
	case begin[0] == '{' || begin[0] == '[':
		return failed("no JSON, though it begins like it: "+quote(text), "write the message with a JSON library: core gets it as text, and can read nothing out of it")
	default:
		return advise("text: "+quote(text), `write JSON, {"message": "…"}: core can read nothing out of text`)
	}
}

func responseTime(_ context.Context, s *subject) Finding {
	if s.answer == nil {
		return noAnswer
	}
	said := time.Duration(s.answer.GetResponseTime())
	switch {
	case said < 0:
		return failed(fmt.Sprintf("%d, below 0", said.Nanoseconds()), "give nanoseconds by a monotonic clock, or 0")
	case said == 0:
		return advise("0", "measure how long the target took, in nanoseconds; else the poller's own time counts, the way to the checker included")
	case said > 24*time.Hour:
		return failed(fmt.Sprintf("%v, but the whole call took %v", said, s.took), "give how many nanoseconds this check took, not a time of day")
	case said > s.took:
		return advise(fmt.Sprintf("%v, but the whole call took %v", said, s.took), "give how many nanoseconds the target took, if it was asked in this call")
	case said < time.Microsecond:
		return advise(fmt.Sprintf("%v, which is very little", said), "make sure that it is in nanoseconds, not in milliseconds")
	default:
		return passed("%v of %v", said, s.took.Round(time.Microsecond))
	}
}

func names(_ context.Context, s *subject) Finding {
	if s.answer == nil {
		return noAnswer
	}
	var others []string
	for _, field := range []struct{ name, got, want string }{
		{"service_name", s.answer.GetServiceName(), checkName},
		{"service_type", s.answer.GetServiceType(), s.Type},
		{"agent_id", s.answer.GetAgentId(), agentName},
		{"poller_id", s.answer.GetPollerId(), pollerName},
	} {
		if field.got != field.want {
			others = append(others, fmt.Sprintf("%s=%s", field.name, quote([]byte(field.got))))
		}
	}
	if len(others) > 0 {
		return advise(strings.Join(others, ", "), "repeat the request's names in the answer, for whoever reads it: pollers go by their own")
	}
	return passed("as they were asked")
}

func health(ctx context.Context, s *subject) Finding {
	var serving, others []string
	for _, name := range []string{"", "AgentService", monitoring.AgentService_ServiceDesc.ServiceName} {
		callCtx, cancel := context.WithTimeout(ctx, s.Timeout)
		r, err := s.health.Check(callCtx, &healthpb.HealthCheckRequest{Service: name}, grpc.WaitForReady(true))
		cancel()
		switch code := status.Code(err); {
		case code == codes.DeadlineExceeded:
			return failed(fmt.Sprintf("of %q: no answer within %v", name, s.Timeout),
				"answer health checks at once, whatever else is going on: a checker that does not is taken to be down")
		case err == nil && r.GetStatus() == healthpb.HealthCheckResponse_SERVING:
			serving = append(serving, fmt.Sprintf("%q", name))
		case err == nil:
			return failed(fmt.Sprintf("of %q: %v", name, r.GetStatus()), "set the health to SERVING as soon as the checker serves")
		case code == codes.NotFound || code == codes.Unimplemented:
			others = append(others, fmt.Sprintf("%q: %v", name, code))
		default:
			return failed(fmt.Sprintf("of %q: %s", name, saying(err)), "answer health checks with SERVING, or with NotFound for a name that is not known")
		}
	}
	switch {
	case len(serving) == 0:
		return advise(strings.Join(others, ", "), "register grpc.health.v1.Health with the service AgentService, so that others than pollers can look, too")
	case len(others) > 0:
		return advise("SERVING: "+strings.Join(serving, ", ")+"; "+strings.Join(others, ", "), `one name is enough for pollers; set "" and AgentService for other tools`)
	}
	return passed("SERVING: %s", strings.Join(serving, ", "))
}

func unknownType(ctx context.Context, s *subject) Finding {
	r, err := s.ask(ctx, "conformance-no-such-type", s.Details)
	const instead = `answer available=false and {"error": "unknown check type …; this checker knows …"}`
	var f Finding
	switch status.Code(err) {
	case codes.OK:
		switch {
		case r.GetAvailable():
			return failed("available=true", "look at service_type: "+instead)
		case len(r.GetMessage()) == 0:
			f = advise("available=false, no message", "say why: "+instead)
		default:
			f = passed("available=false, %s", quote(r.GetMessage()))
		}
	case codes.InvalidArgument, codes.NotFound:
		f = advise(saying(err), "pollers take errors for a broken checker, and stop asking it for a while: "+instead)
	default:
		f = s.broken("GetStatus", err)
		if status.Code(err) != codes.DeadlineExceeded {
			f.Advice = "look at service_type first: " + instead
		}
		return f
	}
	if bad, ok := s.well(ctx, "it"); !ok {
		return bad
	}
	return f
}

func badDetails(details string) func(context.Context, *subject) Finding {
	return func(ctx context.Context, s *subject) Finding {
		r, err := s.ask(ctx, s.Type, details)
		if code := status.Code(err); code == codes.InvalidArgument || code == codes.NotFound {
			if bad, ok := s.well(ctx, "it"); !ok {
				return bad
			}
			return advise(saying(err), "answer available=false with the reason as the message instead: pollers take errors for a broken checker")
		}
		if err != nil {
			f := s.broken("GetStatus", err)
			f.Advice = "check what is in details before you use it: " + f.Advice
			return f
		}
		if bad, ok := s.well(ctx, "it"); !ok {
			return bad
		}
		return passed("available=%v, %s", r.GetAvailable(), quote(r.GetMessage()))
	}
}

// atOnce is also a test of whether calls are served one at a time, which shows where they take their
// time: then they end one after the other, each as long after the one before as it takes by itself.
func atOnce(ctx context.Context, s *subject) Finding {
	const calls = 50
	if s.largest > maxMessage { // 50 of 64 MiB are more than a machine may have
		return failed(fmt.Sprintf("not asked: an answer had %d bytes", s.largest), "first mend what the test of sizes says")
	}
	quickest := s.took
	for range 3 {
		began := time.Now()
		if _, err := s.ask(ctx, s.Type, s.Details); err != nil {
			return s.broken("the good check, before", err)
		}
		quickest = min(quickest, time.Since(began))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type ended struct {
		size int
		err  error
	}
	results := make(chan ended, calls)
	alone := *s
	alone.largest = 0
	began := time.Now()
	for range calls {
		go func() {
			one := alone
			_, err := one.ask(ctx, s.Type, s.Details)
			results <- ended{one.largest, err}
		}()
	}
	var err error
	unanswered, apart, last := 0, 0, began
	for range calls {
		r := <-results
		s.largest = max(s.largest, r.size)
		if r.err != nil {
			unanswered++
			err = r.err
		}
		now := time.Now()
		if now.Sub(last) > quickest/2 {
			apart++
		}
		last = now
	}
	took := last.Sub(began).Round(time.Millisecond)
	const sideBySide = "serve calls side by side, with threads or without blocking: while one target hangs the others must go on"
	switch {
	case unanswered > 0 && status.Code(err) == codes.DeadlineExceeded:
		return failed(fmt.Sprintf("%d of %d calls had no answer within %v", unanswered, calls, s.Timeout), sideBySide)
	case unanswered > 0:
		return failed(fmt.Sprintf("%d of %d calls failed, one with %s", unanswered, calls, saying(err)), "pollers ask all checks of an agent at once: "+sideBySide)
	case took > time.Second && apart > calls/2:
		return failed(fmt.Sprintf("answered one after the other in %v, one alone in %v", took, quickest.Round(time.Millisecond)), sideBySide)
	}
	return passed("all answered within %v", took)
}

func shortDeadline(ctx context.Context, s *subject) Finding {
	const deadline = 100 * time.Millisecond
	one := *s
	one.Timeout = deadline
	began := time.Now()
	_, err := one.ask(ctx, s.Type, s.Details)
	took := time.Since(began).Round(time.Millisecond)
	found := fmt.Sprintf("answered in %v", took)
	switch status.Code(err) {
	case codes.OK:
	case codes.DeadlineExceeded, codes.Canceled:
		found = fmt.Sprintf("no answer in %v, and the next call was answered", deadline)
	default:
		return s.broken("GetStatus", err)
	}
	if bad, ok := s.well(ctx, "a call whose deadline passed"); !ok {
		return bad
	}
	return passed("%s", found)
}

func cancelled(ctx context.Context, s *subject) Finding {
	callCtx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(5*time.Millisecond, cancel)
	_, err := s.ask(callCtx, s.Type, s.Details)
	timer.Stop()
	cancel()
	if code := status.Code(err); code != codes.OK && code != codes.Canceled {
		return s.broken("GetStatus", err)
	}
	if bad, ok := s.well(ctx, "a call that was cancelled"); !ok {
		return bad
	}
	return passed("the next call was answered")
}

func sizes(_ context.Context, s *subject) Finding {
	if s.largest > maxMessage {
		return failed(fmt.Sprintf("the largest answer has %d bytes, above %d", s.largest, maxMessage),
			"answer less, or move lists to StreamResults, in chunks of 1 MiB; a poller takes more only if max_message of its agent says so")
	}
	return passed("%d bytes at most", s.largest)
}
