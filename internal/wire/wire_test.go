package wire

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/proptest"
	"github.com/serviceradar/poller/proto/monitoring"
)

func TestMain(m *testing.M) { os.Exit(proptest.Main(m)) }

// identity is a poller's with nothing to escape.
func identity() *Identity {
	return &Identity{
		PollerID: "p", Partition: "default", SourceIP: "10.0.0.1", KVStoreID: "kv", MaxMessage: 1 << 20, MaxReport: 64 << 20,
	}
}

// answered is the status of a check that its checker answered.
func answered(agent, name, kind, message string) check.Status {
	return check.Status{
		Agent: &check.Agent{Name: agent}, Check: &check.Check{Name: name, Type: kind},
		Available: true, Message: []byte(message), ResponseTime: 95382 * time.Nanosecond,
	}
}

// failed is the status of a check without a verdict.
func failed(reason check.Reason, detail string) check.Status {
	st := answered("a", "ssh", "port", "")
	st.Available, st.Message = false, nil
	st.Reason, st.Detail = reason, detail
	return st
}

func wantEqual(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// statusOf is what an Identity makes of a status.
func statusOf(t failer, id *Identity, st check.Status) *monitoring.ServiceStatus {
	t.Helper()
	out, err := id.Status(st)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return out
}

func sizeOf(id *Identity, at time.Time, services []*monitoring.ServiceStatus) int {
	r := id.request(at.Unix())
	r.Services = services
	return proto.Size(r)
}

// at is the time of a cycle.
var at = time.Unix(1000, 0)
