package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/proto/monitoring"
)

// Chunks returns a report as the chunks of a stream, each at most limit bytes, at least one. A status
// that is larger than that is in several, each with the next slice of its message. The messages are
// not copied. The report must be Streamable, and the limit far above what a status without its
// message has.
func Chunks(r *monitoring.PollerStatusRequest, limit int) []*monitoring.PollerStatusChunk {
	c := chunker{report: r, limit: limit}
	const numbers = 2 * (1 + 5) // chunk_index and total_chunks, which are not known yet: tag and varint
	c.heading = proto.Size(c.chunk(nil)) + numbers
	c.size = c.heading
	for _, st := range r.GetServices() {
		c.add(st)
	}
	if len(c.open) > 0 || len(c.chunks) == 0 {
		c.close()
	}
	for i, chunk := range c.chunks {
		chunk.ChunkIndex, chunk.TotalChunks = int32(i), int32(len(c.chunks)) //nolint:gosec // there are no 2 billion chunks
		chunk.IsFinal = i == len(c.chunks)-1
	}
	return c.chunks
}

// chunker fills chunks, one after the other.
type chunker struct {
	report  *monitoring.PollerStatusRequest
	limit   int
	heading int // size of a chunk without statuses
	size    int // of the open chunk
	open    []*monitoring.ServiceStatus
	chunks  []*monitoring.PollerStatusChunk
}

func (c *chunker) add(st *monitoring.ServiceStatus) {
	size := sizeWithin(proto.Size(st))
	switch {
	case c.size+size <= c.limit:
		c.put(st, size)
	case c.heading+size <= c.limit:
		c.close()
		c.put(st, size)
	default:
		c.slice(st)
	}
}

func (c *chunker) put(st *monitoring.ServiceStatus, size int) {
	c.open = append(c.open, st)
	c.size += size
}

// slice puts a status that fits into no chunk into chunks of its own.
func (c *chunker) slice(st *monitoring.ServiceStatus) {
	if len(c.open) > 0 {
		c.close()
	}
	message := st.GetMessage()
	bare := withMessage(st, nil)
	const lengths = 16 // at most what a message adds beside itself: its tag, its length, a longer length of the status
	room := max(c.limit-c.heading-sizeWithin(proto.Size(bare))-lengths, 1)
	for first := true; first || len(message) > 0; first = false {
		n := min(room, len(message))
		c.open = append(c.open, withMessage(st, message[:n]))
		c.close()
		message = message[n:]
	}
}

// withMessage returns a status that has another message.
func withMessage(st *monitoring.ServiceStatus, message []byte) *monitoring.ServiceStatus {
	return &monitoring.ServiceStatus{
		ServiceName:  st.GetServiceName(),
		Available:    st.GetAvailable(),
		Message:      message,
		ServiceType:  st.GetServiceType(),
		ResponseTime: st.GetResponseTime(),
		AgentId:      st.GetAgentId(),
		PollerId:     st.GetPollerId(),
		Partition:    st.GetPartition(),
		Source:       st.GetSource(),
		KvStoreId:    st.GetKvStoreId(),
	}
}

func (c *chunker) close() {
	c.chunks = append(c.chunks, c.chunk(c.open))
	c.open, c.size = nil, c.heading
}

func (c *chunker) chunk(services []*monitoring.ServiceStatus) *monitoring.PollerStatusChunk {
	return &monitoring.PollerStatusChunk{
		Services:  services,
		PollerId:  c.report.GetPollerId(),
		AgentId:   c.report.GetAgentId(),
		Timestamp: c.report.GetTimestamp(),
		Partition: c.report.GetPartition(),
		SourceIp:  c.report.GetSourceIp(),
		IsFinal:   true,
		KvStoreId: c.report.GetKvStoreId(),
	}
}

// Hello returns a stream of one chunk with a report's heading and nothing else: core registers its
// poller.
func Hello(r *monitoring.PollerStatusRequest) []*monitoring.PollerStatusChunk {
	c := chunker{report: r}
	c.close()
	c.chunks[0].TotalChunks = 1
	return c.chunks
}

// Delivery is one call to core: a report, or a part of one that core found too large.
type Delivery struct {
	// ID tells it from any other.
	ID string
	// Body is a marshalled PollerStatusRequest.
	Body []byte
	// Limit bounds one message, in bytes. A larger body goes in chunks.
	Limit int
	// InChunks has it go in chunks though it is not larger.
	InChunks bool
}

// leastChunk is the size below which making chunks smaller helps nobody: every server takes such
// messages.
const leastChunk = 64 << 10

// Small tells whether a delivery is so small that any server takes it in one message.
func (d Delivery) Small() bool { return len(d.Body) <= leastChunk }

// Smaller returns what to send instead of a delivery that core finds too large: its halves, if it
// has several statuses; else the same in chunks, which get smaller each time. False means that there
// is nothing left to try.
func (d Delivery) Smaller() ([]Delivery, bool) {
	r := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(d.Body, r); err != nil {
		return nil, false
	}
	if len(r.GetServices()) > 1 {
		return d.halves(r)
	}
	smaller := max(min(d.Limit, len(d.Body))/2, leastChunk)
	if d.InChunks && smaller >= d.Limit {
		return nil, false
	}
	d.Limit, d.InChunks = min(smaller, d.Limit), true
	return []Delivery{d}, true
}

// halves splits by the number of statuses: which of them is too large is not known.
func (d Delivery) halves(r *monitoring.PollerStatusRequest) ([]Delivery, bool) {
	all := r.GetServices()
	var halves []Delivery
	for i, services := range [][]*monitoring.ServiceStatus{all[:len(all)/2], all[len(all)/2:]} {
		r.Services = services
		body, err := proto.Marshal(r)
		if err != nil {
			return nil, false
		}
		halves = append(halves, Delivery{ID: fmt.Sprintf("%s.%d", d.ID, i+1), Body: body, Limit: d.Limit})
	}
	return halves, true
}
