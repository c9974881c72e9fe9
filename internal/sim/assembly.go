package sim

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/proto/monitoring"
)

// assembly puts the chunks of one stream together, as core does, and notes what is wrong with them.
type assembly struct {
	first      *monitoring.PollerStatusChunk
	count      int32
	final      bool
	services   []*monitoring.ServiceStatus
	byKey      map[string]*monitoring.ServiceStatus
	lastChunk  map[string]int32 // by key, the chunk it was last seen in
	largest    int              // bytes of a chunk
	violations []string
}

func (a *assembly) add(chunk *monitoring.PollerStatusChunk) {
	if a.first == nil {
		a.first = chunk
		a.byKey = make(map[string]*monitoring.ServiceStatus)
		a.lastChunk = make(map[string]int32)
	}
	if got := chunk.GetChunkIndex(); got != a.count {
		a.violation("chunk %d has chunk_index %d", a.count, got)
	}
	if got, want := chunk.GetTotalChunks(), a.first.GetTotalChunks(); got != want {
		a.violation("chunk %d has total_chunks %d, the first had %d", a.count, got, want)
	}
	if chunk.GetPollerId() != a.first.GetPollerId() || chunk.GetTimestamp() != a.first.GetTimestamp() ||
		chunk.GetPartition() != a.first.GetPartition() || chunk.GetSourceIp() != a.first.GetSourceIp() {
		a.violation("chunk %d differs from the first in poller_id, timestamp, partition or source_ip", a.count)
	}
	for _, s := range chunk.GetServices() {
		a.addService(s)
	}
	a.largest = max(a.largest, proto.Size(chunk))
	a.count++
	a.final = chunk.GetIsFinal()
}

func (a *assembly) addService(s *monitoring.ServiceStatus) {
	key := s.GetServiceName() + ":" + s.GetServiceType()
	whole, seen := a.byKey[key]
	if !seen {
		// A copy, for its message will grow.
		whole = proto.CloneOf(s)
		a.byKey[key] = whole
		a.services = append(a.services, whole)
	} else {
		switch {
		case s.GetAgentId() != whole.GetAgentId():
			a.violation("statuses of agents %q and %q with the key %q in one stream are glued together",
				whole.GetAgentId(), s.GetAgentId(), key)
		case a.lastChunk[key] == a.count:
			a.violation("two statuses of agent %q with the key %q in one chunk are glued together", s.GetAgentId(), key)
		}
		whole.Message = append(whole.Message, s.GetMessage()...)
	}
	a.lastChunk[key] = a.count
}

// delivery returns the whole, once the last chunk has been added.
func (a *assembly) delivery() (Delivery, []string) {
	switch {
	case a.first == nil:
		a.violation("a stream without any chunk")
	case !a.final:
		a.violation("a stream ended after %d chunks without is_final", a.count)
	case a.first.GetTotalChunks() != a.count:
		a.violation("a stream of %d chunks has total_chunks %d", a.count, a.first.GetTotalChunks())
	}
	return Delivery{
		Stream: true, Timestamp: a.first.GetTimestamp(), PollerID: a.first.GetPollerId(),
		Partition: a.first.GetPartition(), SourceIP: a.first.GetSourceIp(), Services: a.services,
		Chunks: int(a.count), Largest: a.largest,
	}, a.violations
}

func (a *assembly) violation(format string, args ...any) {
	a.violations = append(a.violations, fmt.Sprintf(format, args...))
}
