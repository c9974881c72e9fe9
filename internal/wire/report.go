package wire

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// servicesField is the number of the field services, in reports and in chunks.
const servicesField = 1

// Report is what goes to core in one call, unary if it has at most MaxMessage bytes, else in chunks.
type Report struct {
	// Body is a marshalled PollerStatusRequest.
	Body []byte
	// Sequences are where the results that are in it stand.
	Sequences []check.Sequence
}

// Reports returns a cycle as reports; at least one, because each is the poller's heartbeat, and few,
// because core's live view shows only the last. One if it all fits into a message, or can go in one
// stream, where all must have keys of their own; else each status that is too large for a message by
// itself, and then the others, packed into messages with the fullest last.
func (id *Identity) Reports(at time.Time, statuses []check.Status) ([]Report, error) {
	c := &composer{id: id, timestamp: at.Unix(), statuses: statuses}
	if err := c.weigh(); err != nil {
		return nil, err
	}
	if c.total <= id.MaxMessage || c.total <= id.MaxReport && c.keysDiffer() {
		if err := c.add(c.all()); err != nil {
			return nil, err
		}
		return c.reports, nil
	}
	large, others := c.apart()
	for _, i := range large {
		if err := c.add([]int{i}); err != nil {
			return nil, err
		}
	}
	for _, message := range c.pack(others) {
		if err := c.add(message); err != nil {
			return nil, err
		}
	}
	return c.reports, nil
}

// composer makes the reports of a cycle.
type composer struct {
	id        *Identity
	timestamp int64
	statuses  []check.Status
	items     []item // of the statuses
	sizes     []int  // of the items, within a report
	heading   int    // size of a report without any
	total     int    // size of a report with all
	reports   []Report
}

func (c *composer) weigh() error {
	c.items = make([]item, len(c.statuses))
	c.sizes = make([]int, len(c.statuses))
	c.heading = c.id.heading(c.timestamp)
	c.total = c.heading
	var scratch []byte
	for i := range c.statuses {
		it, err := c.id.item(&c.statuses[i], &scratch)
		if err != nil {
			return err
		}
		c.items[i], c.sizes[i] = it, it.sizeWithin()
		c.total += c.sizes[i]
	}
	return nil
}

func (c *composer) all() []int {
	all := make([]int, len(c.statuses))
	for i := range all {
		all[i] = i
	}
	return all
}

func (c *composer) keysDiffer() bool {
	return keysDiffer(len(c.items), func(i int) (name, kind string) {
		chk := c.items[i].check
		return chk.Name, serviceType(chk)
	})
}

// apart tells the statuses that are too large for a message by themselves from the others.
func (c *composer) apart() (large, others []int) {
	for i, size := range c.sizes {
		if c.heading+size > c.id.MaxMessage {
			large = append(large, i)
		} else {
			others = append(others, i)
		}
	}
	return large, others
}

// pack divides statuses among messages: each, the largest first, goes into the first message that has
// room for it, which needs at most a quarter more messages than the best way, and mostly none more.
// Within a message they keep their order.
func (c *composer) pack(indices []int) [][]int {
	slices.SortStableFunc(indices, func(a, b int) int { return c.sizes[b] - c.sizes[a] })
	var messages [][]int
	var sizes []int
	for _, i := range indices {
		at := slices.IndexFunc(sizes, func(size int) bool { return size+c.sizes[i] <= c.id.MaxMessage })
		if at < 0 {
			at = len(messages)
			messages, sizes = append(messages, nil), append(sizes, c.heading)
		}
		messages[at] = append(messages[at], i)
		sizes[at] += c.sizes[i]
	}
	for _, m := range messages {
		slices.Sort(m)
	}
	slices.Reverse(messages)
	return messages
}

// add makes a report of statuses.
func (c *composer) add(indices []int) error {
	size := c.heading
	for _, i := range indices {
		size += c.sizes[i]
	}
	body, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, size), c.id.request(c.timestamp))
	if err != nil {
		return fmt.Errorf("marshal the heading of a report: %w", err)
	}
	var sequences []check.Sequence
	for _, i := range indices {
		body = c.id.append(body, &c.items[i])
		if sequence := c.items[i].sequence; sequence != "" {
			st := &c.statuses[i]
			sequences = append(sequences, check.Sequence{Agent: st.Agent.Name, Check: st.Check.Name, Value: sequence})
		}
	}
	if len(body) != size { // then lengths in it are wrong, and nobody could read it
		return fmt.Errorf("a report of %d bytes came to %d: a fault of the poller's own", size, len(body))
	}
	c.reports = append(c.reports, Report{Body: body, Sequences: sequences})
	return nil
}

// Statuses are by far the most that is marshalled, so it is done by hand. The order of fields is free.
const (
	nameField         = 1
	availableField    = 2
	messageField      = 3
	typeField         = 4
	responseTimeField = 5
	agentField        = 6
	pollerField       = 7
	partitionField    = 8
	sourceField       = 9
	kvStoreField      = 10
)

func (it *item) size() int {
	size := int(it.fields)
	if it.available {
		size += protowire.SizeTag(availableField) + protowire.SizeVarint(1)
	}
	if it.length > 0 {
		size += protowire.SizeTag(messageField) + protowire.SizeBytes(it.length)
	}
	if it.took != 0 {
		size += protowire.SizeTag(responseTimeField) + protowire.SizeVarint(uint64(it.took)) //nolint:gosec // as the contract's int64 is marshalled
	}
	return size
}

// sizeWithin is what the status adds to the size of a report.
func (it *item) sizeWithin() int { return sizeWithin(it.size()) }

func sizeWithin(size int) int { return protowire.SizeTag(servicesField) + protowire.SizeBytes(size) }

// append marshals a status as one of a report.
func (id *Identity) append(b []byte, it *item) []byte {
	b = protowire.AppendTag(b, servicesField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(it.size())) //nolint:gosec // a size
	b = appendString(b, nameField, it.check.Name)
	b = appendString(b, typeField, serviceType(it.check))
	b = appendString(b, agentField, it.agent.Name)
	b = appendString(b, pollerField, id.PollerID)
	b = appendString(b, partitionField, id.Partition)
	b = appendString(b, sourceField, source(it.check))
	b = appendString(b, kvStoreField, id.KVStoreID)
	if it.available {
		b = protowire.AppendTag(b, availableField, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
	}
	if it.length > 0 {
		b = protowire.AppendTag(b, messageField, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(it.length))
		b = id.appendMessage(b, it)
	}
	if it.took != 0 {
		b = protowire.AppendTag(b, responseTimeField, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(it.took)) //nolint:gosec // as the contract's int64 is marshalled
	}
	return b
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// heading returns the size of a report without statuses.
func (id *Identity) heading(timestamp int64) int { return proto.Size(id.request(timestamp)) }

// request returns a report without statuses.
func (id *Identity) request(timestamp int64) *monitoring.PollerStatusRequest {
	return &monitoring.PollerStatusRequest{
		PollerId:  id.PollerID,
		Timestamp: timestamp,
		Partition: id.Partition,
		SourceIp:  id.SourceIP,
		KvStoreId: id.KVStoreID,
	}
}

// Streamable tells whether a report may go out as a stream. Core joins the statuses of a stream
// that have equal names and types, whatever their agents, so all of these must differ.
func Streamable(r *monitoring.PollerStatusRequest) bool {
	services := r.GetServices()
	return keysDiffer(len(services), func(i int) (name, kind string) {
		return services[i].GetServiceName(), services[i].GetServiceType()
	})
}

func keysDiffer(n int, of func(int) (name, kind string)) bool {
	seen := make(map[string]bool)
	for i := range n {
		name, kind := of(i)
		key := name + ":" + kind
		if seen[key] {
			return false
		}
		seen[key] = true
	}
	return true
}
