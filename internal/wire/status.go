// Package wire translates between the domain and the gRPC contract. All of it is pure: no I/O, no
// clock, safe for concurrent use.
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// sourceGetStatus is what core calls statuses that came from GetStatus.
const sourceGetStatus = "getStatus"

// typeSync is the type of check whose message core wants without an envelope.
const typeSync = "sync"

// Identity is who reports, as core sees it.
type Identity struct {
	PollerID, Partition, SourceIP, KVStoreID string
	// Bare leaves out core's message envelope.
	Bare bool
	// MaxMessage bounds a marshalled report, in bytes. It must leave room for one status
	// without a message; config keeps it far above that.
	MaxMessage int
}

// Status returns the contract's form of a status. One that does not fit into a report of
// MaxMessage becomes a too_large failure that says so, because half an answer would be a lie.
func (id *Identity) Status(st check.Status) *monitoring.ServiceStatus {
	out := id.status(st)
	if size := id.sizeAlone(out); size > id.MaxMessage {
		detail := fmt.Sprintf("the answer of %d bytes makes a report of %d, above core.max_message = %d; "+
			"let the checker answer less", len(st.Message), size, id.MaxMessage)
		st.Available, st.Message, st.Reason, st.Detail = false, nil, check.TooLarge, detail
		out = id.status(st)
	}
	return out
}

func (id *Identity) status(st check.Status) *monitoring.ServiceStatus {
	return &monitoring.ServiceStatus{
		ServiceName:  st.Check.Name,
		Available:    st.Available && st.Reason == "",
		Message:      id.message(st),
		ServiceType:  st.Check.Type,
		ResponseTime: st.ResponseTime.Nanoseconds(),
		AgentId:      st.Agent.Name,
		PollerId:     id.PollerID,
		Partition:    id.Partition,
		Source:       sourceGetStatus,
		KvStoreId:    id.KVStoreID,
	}
}

func (id *Identity) message(st check.Status) []byte {
	if st.Reason != "" {
		return id.envelope(st, failure(st))
	}
	if id.Bare || st.Check.Type == typeSync {
		return st.Message
	}
	return id.envelope(st, data(st.Message))
}

// failure is what stands in for the checker's own words when there are none.
func failure(st check.Status) []byte {
	b := append([]byte(`{"error":`), quote(st.Detail)...)
	b = append(b, `,"reason":`...)
	b = append(b, quote(string(st.Reason))...)
	return append(b, '}')
}

// data is the checker's message as JSON: unchanged if it is JSON, so that the order of keys and
// every digit survive; text is wrapped, nothing becomes an empty object.
func data(message []byte) []byte {
	message = bytes.TrimSpace(message)
	switch {
	case len(message) == 0:
		return []byte("{}")
	case json.Valid(message):
		return message
	}
	b := append([]byte(`{"message":`), quote(string(message))...)
	return append(b, '}')
}

func (id *Identity) envelope(st check.Status, data []byte) []byte {
	if id.Bare || st.Check.Type == typeSync {
		return data
	}
	b := make([]byte, 0, len(data)+192)
	for _, field := range [...]struct{ key, value string }{
		{`{"poller_id":`, id.PollerID},
		{`,"agent_id":`, st.Agent.Name},
		{`,"partition":`, id.Partition},
		{`,"service_type":`, st.Check.Type},
		{`,"service_name":`, st.Check.Name},
	} {
		b = append(b, field.key...)
		b = appendQuoted(b, field.value)
	}
	b = append(b, `,"data":`...)
	b = append(b, data...)
	return append(b, '}')
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

// sizeAlone is the size of a report with nothing but the status, at whatever time: the largest
// timestamp is a negative one.
func (id *Identity) sizeAlone(st *monitoring.ServiceStatus) int {
	return proto.Size(id.request(-1, []*monitoring.ServiceStatus{st}))
}
