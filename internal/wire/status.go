// Package wire translates between the domain and the gRPC contract. All of it is pure: no I/O, no
// clock, safe for concurrent use.
package wire

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// What core calls statuses by how the checker was asked.
const (
	sourceGetStatus = "getStatus"
	sourceResults   = "results"
)

// Identity is who reports, as core sees it. Nothing in it may change once Prepare was called.
type Identity struct {
	PollerID, Partition, SourceIP, KVStoreID string
	// Bare leaves out core's message envelope.
	Bare bool
	// MaxMessage bounds one message to core, in bytes. It must leave room for one status
	// without a message; config keeps it far above that.
	MaxMessage int
	// MaxReport bounds a report that goes in chunks, in bytes: what the spool can hold. It is at
	// least MaxMessage.
	MaxReport int
	// Resolve returns a host's address if it is known; it must not block. It may be nil.
	Resolve func(name string) netip.Addr

	frames map[*check.Check]*frame // of the checks that Prepare was told of
}

// frame is what is known beforehand of a check's statuses. There is one for each check, so it is small: all that is the
// same in each status takes less time to write than it would take memory to keep.
type frame struct {
	agent *check.Agent
	check *check.Check
	// fields is the size of the fields that do not change; envelope that of the envelope up to the checker's words,
	// or 0 if there is none.
	fields, envelope int32
	// host is what is known without asking; resolve the name to ask for, if there is one.
	host    host
	resolve string
}

// Prepare makes ready for the statuses of these agents' checks, which is cheaper than with each of
// them, and lets Resolve hear of their hosts. It must not be called beside other methods.
func (id *Identity) Prepare(agents []*check.Agent) error {
	n := 0
	for i := range agents {
		n += len(agents[i].Checks)
	}
	frames := make([]frame, 0, n)
	id.frames = make(map[*check.Check]*frame, n)
	hosts := make(map[host]host) // many checks are about the same host
	for i := range agents {
		for j := range agents[i].Checks {
			f, err := id.newFrame(agents[i], &agents[i].Checks[j])
			if err != nil {
				return err
			}
			if known, ok := hosts[f.host]; ok {
				f.host = known
			}
			hosts[f.host] = f.host
			frames = append(frames, f)
			id.frames[f.check] = &frames[len(frames)-1]
			id.host(&f)
		}
	}
	return nil
}

func (id *Identity) newFrame(a *check.Agent, c *check.Check) (frame, error) {
	f := frame{agent: a, check: c}
	fields, err := proto.Marshal(id.service(&f))
	if err != nil {
		return f, fmt.Errorf("marshal a status of check %q of agent %q: %w", c.Name, a.Name, err)
	}
	f.fields = int32(len(fields))                          //nolint:gosec // names are short
	if id.Bare || serviceType(f.check) == check.TypeSync { // as it came
		return f, nil
	}
	f.envelope = int32(len(id.appendEnvelope(nil, &f))) //nolint:gosec // as above
	f.host, f.resolve = hostOf(a, c)
	return f, nil
}

// service returns the contract's form of a status, without what changes.
func (id *Identity) service(f *frame) *monitoring.ServiceStatus {
	return &monitoring.ServiceStatus{
		ServiceName: f.check.Name, ServiceType: serviceType(f.check), AgentId: f.agent.Name, Source: source(f.check),
		PollerId: id.PollerID, Partition: id.Partition, KvStoreId: id.KVStoreID,
	}
}

// source is what core is told of how a check is asked.
func source(c *check.Check) string {
	if c.HasResults() {
		return sourceResults
	}
	return sourceGetStatus
}

// serviceType is what core is told of a check's type.
func serviceType(c *check.Check) string {
	if c.HasResults() && c.IsSync() {
		return check.TypeSync
	}
	return c.Type
}

// appendEnvelope appends core's envelope of a message as far as what the checker says; a brace closes it.
func (id *Identity) appendEnvelope(b []byte, f *frame) []byte {
	for _, field := range [...]struct{ key, value string }{
		{`{"poller_id":`, id.PollerID},
		{`,"agent_id":`, f.agent.Name},
		{`,"partition":`, id.Partition},
		{`,"service_type":`, serviceType(f.check)},
		{`,"service_name":`, f.check.Name},
	} {
		b = append(b, field.key...)
		b = appendQuoted(b, field.value)
	}
	return append(b, `,"data":`...)
}

// host returns what is known of the host by now.
func (id *Identity) host(f *frame) host {
	h := f.host
	if f.resolve != "" && id.Resolve != nil {
		if ip := id.Resolve(f.resolve); ip.IsValid() {
			h.ip = ipMembers(ip)
		}
	}
	return h
}

// item is a status on its way into a report, into which its message is written without being made first.
type item struct {
	*frame
	available bool
	took      int64 // nanoseconds
	content   content
	length    int    // of the message, in bytes
	sequence  string // where results stand once this is safe
}

// Status returns the contract's form of a status.
func (id *Identity) Status(st check.Status) (*monitoring.ServiceStatus, error) {
	it, err := id.item(&st, new([]byte))
	if err != nil {
		return nil, err
	}
	out := id.service(it.frame)
	out.Message, out.Available, out.ResponseTime = id.appendMessage(nil, &it), it.available, it.took
	return out, nil
}

// item translates a status. One that does not fit into a report of MaxReport becomes a too_large
// failure that says so, because half an answer would be a lie. Scratch is where what is said is written to find
// out its length; its memory is used again.
func (id *Identity) item(st *check.Status, scratch *[]byte) (item, error) {
	f, ok := id.frames[st.Check]
	if !ok {
		made, err := id.newFrame(st.Agent, st.Check)
		if err != nil {
			return item{}, err
		}
		f = &made
	}
	it := item{
		frame: f, available: st.Available && st.Reason == "" || st.Confirming > 0, took: st.ResponseTime.Nanoseconds(),
		content: id.content(f, st), sequence: st.Sequence,
	}
	it.measure(scratch)
	if it.length < id.MaxReport/2 { // the rest is names, which are short
		return it, nil
	}
	const anyTime = -1 // the largest timestamp when marshalled
	if size := id.heading(anyTime) + it.sizeWithin(); size > id.MaxReport {
		failed := *st
		failed.Reason = check.TooLarge
		failed.Detail = fmt.Sprintf("the answer of %d bytes makes a report of %d, above the %d that can be kept; "+
			"let the checker answer less", len(st.Message), size, id.MaxReport)
		it.available, it.content, it.sequence = st.Confirming > 0, id.content(f, &failed), ""
		it.measure(scratch)
	}
	return it, nil
}

// content is what a status says: as it came, where core has no envelope for it.
func (id *Identity) content(f *frame, st *check.Status) content {
	var c content
	answered := st.Reason == "" || st.Reason == check.Assertion
	switch enveloped := f.envelope > 0; {
	case !answered && enveloped:
		c = failureOf(st, id.host(f))
	case !answered:
		c = failureOf(st, host{})
	case enveloped:
		c = contentOf(st.Message, id.host(f))
	default:
		c = content{text: st.Message}
	}
	if st.Confirming > 0 || st.Silenced != "" || st.Minority || st.Reason == check.Assertion {
		c.remark(f, remarkOn(st))
	}
	return c
}

func (it *item) measure(scratch *[]byte) {
	*scratch = it.content.append((*scratch)[:0])
	it.length = len(*scratch)
	if it.envelope > 0 {
		it.length += int(it.envelope) + len("}")
	}
}

// appendMessage appends a status' message.
func (id *Identity) appendMessage(b []byte, it *item) []byte {
	if it.envelope == 0 {
		return it.content.append(b)
	}
	return append(it.content.append(id.appendEnvelope(b, it.frame)), '}')
}

func quote(s string) []byte { return appendQuoted(nil, s) }

// appendQuoted appends s as a JSON string. Most strings here are plain names, which need no
// escaping and so no allocation.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
