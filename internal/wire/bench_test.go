package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// BenchmarkStatus translates a status of 300 bytes.
func BenchmarkStatus(b *testing.B) {
	id, statuses := typical(b, 1)
	b.ReportAllocs()
	b.SetBytes(int64(len(statuses[0].Message)))
	var scratch []byte
	for b.Loop() {
		if _, err := id.item(&statuses[0], &scratch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReports makes the reports of a cycle of such statuses, all that is done for them. Those whose keys
// differ go in one stream if they are too many for a message.
func BenchmarkReports(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		for _, keys := range []string{"same", "differ"} {
			b.Run(fmt.Sprintf("statuses=%d/keys=%s", n, keys), func(b *testing.B) {
				id, statuses := typical(b, n)
				if keys == "differ" {
					tellApart(b, id, statuses)
				}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := id.Reports(time.Unix(1000, 0), statuses); err != nil {
						b.Fatal(err)
					}
				}
				perStatus(b, n)
			})
		}
	}
}

func perStatus(b *testing.B, statuses int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*statuses), "ns/status")
}

// BenchmarkReportsBare is the same without host keys by the shortest way: the standard JSON library
// checks and wraps each answer, the protobuf library marshals the report.
func BenchmarkReportsBare(b *testing.B) {
	id, statuses := typical(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		r := id.request(1000)
		for i := range statuses {
			r.Services = append(r.Services, bare(b, id, &statuses[i]))
		}
		if _, err := proto.Marshal(r); err != nil {
			b.Fatal(err)
		}
	}
	perStatus(b, len(statuses))
}

func bare(b *testing.B, id *Identity, st *check.Status) *monitoring.ServiceStatus {
	b.Helper()
	message, err := json.Marshal(struct {
		PollerID    string          `json:"poller_id"`
		AgentID     string          `json:"agent_id"`
		Partition   string          `json:"partition"`
		ServiceType string          `json:"service_type"`
		ServiceName string          `json:"service_name"`
		Data        json.RawMessage `json:"data"`
	}{id.PollerID, st.Agent.Name, id.Partition, st.Check.Type, st.Check.Name, st.Message})
	if err != nil {
		b.Fatal(err)
	}
	return &monitoring.ServiceStatus{
		ServiceName: st.Check.Name, ServiceType: st.Check.Type, AgentId: st.Agent.Name, PollerId: id.PollerID, Partition: id.Partition,
		Available: true, ResponseTime: st.ResponseTime.Nanoseconds(), Source: sourceGetStatus, KvStoreId: id.KVStoreID, Message: message,
	}
}

// typical returns n statuses with answers of 300 bytes, five for each agent, and who reports them.
func typical(t testing.TB, n int) (*Identity, []check.Status) {
	t.Helper()
	agents := make([]*check.Agent, (n+4)/5)
	statuses := make([]check.Status, n)
	for i := range statuses {
		if i%5 == 0 {
			agents[i/5] = &check.Agent{Name: fmt.Sprintf("agent-%05d", i/5), Address: "127.2.0.1:50051", Checks: make([]check.Check, 5)}
		}
		a := agents[i/5]
		c := &a.Checks[i%5]
		c.Name, c.Type, c.Details = fmt.Sprintf("check-%d", i%5), "port", fmt.Sprintf("127.2.0.%d:50061", i%250)
		message := fmt.Sprintf(`{"host":"127.2.0.%d","port":50061,"response_time":95382,"text":"`, i%250)
		message += strings.Repeat("x", 298-len(message)) + `"}`
		statuses[i] = answered("", "", "", message)
		statuses[i].Agent, statuses[i].Check = a, c
	}
	id := identity()
	if err := id.Prepare(agents); err != nil {
		t.Fatal(err)
	}
	return id, statuses
}

// tellApart gives each check a name of its own.
func tellApart(t testing.TB, id *Identity, statuses []check.Status) {
	t.Helper()
	agents := make([]*check.Agent, 0, len(statuses)/5)
	for i := range statuses {
		statuses[i].Check.Name = fmt.Sprintf("check-%05d", i)
		if i%5 == 0 {
			agents = append(agents, statuses[i].Agent)
		}
	}
	if err := id.Prepare(agents); err != nil {
		t.Fatal(err)
	}
}
