package wire

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Reports returns a cycle as marshalled PollerStatusRequests, each at most MaxMessage bytes, as
// few as keep the statuses in order; at least one, because each report is the poller's heartbeat.
func (id *Identity) Reports(at time.Time, statuses []check.Status) ([][]byte, error) {
	var bodies [][]byte
	rest := make([]*monitoring.ServiceStatus, len(statuses))
	for i, st := range statuses {
		rest[i] = id.Status(st)
	}
	for {
		n := id.fit(at.Unix(), rest)
		body, err := proto.Marshal(id.request(at.Unix(), rest[:n]))
		if err != nil {
			return nil, fmt.Errorf("marshal a report of %d statuses: %w", n, err)
		}
		bodies = append(bodies, body)
		if rest = rest[n:]; len(rest) == 0 {
			return bodies, nil
		}
	}
}

// fit returns how many of the first statuses go into one report; at least one if there is any.
func (id *Identity) fit(timestamp int64, statuses []*monitoring.ServiceStatus) int {
	const servicesField = 1
	size := proto.Size(id.request(timestamp, nil))
	for n, st := range statuses {
		size += protowire.SizeTag(servicesField) + protowire.SizeBytes(proto.Size(st))
		if size > id.MaxMessage && n > 0 {
			return n
		}
	}
	return len(statuses)
}

func (id *Identity) request(timestamp int64, services []*monitoring.ServiceStatus) *monitoring.PollerStatusRequest {
	return &monitoring.PollerStatusRequest{
		Services:  services,
		PollerId:  id.PollerID,
		Timestamp: timestamp,
		Partition: id.Partition,
		SourceIp:  id.SourceIP,
		KvStoreId: id.KVStoreID,
	}
}

// FinalChunk returns a report as the only chunk of a stream.
func FinalChunk(r *monitoring.PollerStatusRequest) *monitoring.PollerStatusChunk {
	return &monitoring.PollerStatusChunk{
		Services:    r.GetServices(),
		PollerId:    r.GetPollerId(),
		AgentId:     r.GetAgentId(),
		Timestamp:   r.GetTimestamp(),
		Partition:   r.GetPartition(),
		SourceIp:    r.GetSourceIp(),
		IsFinal:     true,
		ChunkIndex:  0,
		TotalChunks: 1,
		KvStoreId:   r.GetKvStoreId(),
	}
}

// Streamable tells whether a report may go out as a stream. Core joins the statuses of a stream
// that have equal names and types, whatever their agents, so all of these must differ.
func Streamable(r *monitoring.PollerStatusRequest) bool {
	seen := make(map[string]bool, len(r.GetServices()))
	for _, st := range r.GetServices() {
		key := st.GetServiceName() + ":" + st.GetServiceType()
		if seen[key] {
			return false
		}
		seen[key] = true
	}
	return true
}
