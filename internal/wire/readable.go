package wire

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/proto/monitoring"
)

// ReadableReport is a report for people, and for encoding/json. The names are those of the contract.
type ReadableReport struct {
	PollerID  string `json:"poller_id"`
	Partition string `json:"partition"`
	SourceIP  string `json:"source_ip"`
	KVStoreID string `json:"kv_store_id,omitempty"`
	// Timestamp is the time of the cycle in Unix seconds.
	Timestamp int64             `json:"timestamp"`
	Services  []ReadableService `json:"services"`
}

// ReadableService is a status in a ReadableReport.
type ReadableService struct {
	Name      string `json:"service_name"`
	Type      string `json:"service_type"`
	AgentID   string `json:"agent_id"`
	Available bool   `json:"available"`
	// ResponseTime is in nanoseconds.
	ResponseTime int64  `json:"response_time"`
	Source       string `json:"source"`
	// MessageAs tells what Message is: "json", a json.RawMessage with all digits as they came; else "text", a
	// string; else "base64", a []byte, which encoding/json writes so.
	MessageAs string `json:"message_as"`
	Message   any    `json:"message"`
}

// Readable takes a report's body apart. Messages that are JSON are parts of it.
func Readable(body []byte) (*ReadableReport, error) {
	r := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("this is no report: %w", err)
	}
	out := &ReadableReport{
		PollerID: r.GetPollerId(), Partition: r.GetPartition(), SourceIP: r.GetSourceIp(), KVStoreID: r.GetKvStoreId(),
		Timestamp: r.GetTimestamp(), Services: make([]ReadableService, 0, len(r.GetServices())),
	}
	for _, st := range r.GetServices() {
		service := ReadableService{
			Name: st.GetServiceName(), Type: st.GetServiceType(), AgentID: st.GetAgentId(), Available: st.GetAvailable(),
			ResponseTime: st.GetResponseTime(), Source: st.GetSource(),
		}
		service.MessageAs, service.Message = readableMessage(st.GetMessage())
		out.Services = append(out.Services, service)
	}
	return out, nil
}

func readableMessage(message []byte) (as string, value any) {
	// encoding/json refuses what is too deep, and around the message there are a few levels.
	const around = 16
	switch {
	case !utf8.Valid(message):
		return "base64", message
	case !deeper(message, maxDepth-around) && json.Valid(message):
		return "json", json.RawMessage(message)
	}
	return "text", string(message)
}

// CountStatuses returns how many statuses there are in a report's body, without taking it apart.
func CountStatuses(body []byte) (int, error) {
	n := 0
	for len(body) > 0 {
		number, _, size := protowire.ConsumeField(body)
		if size < 0 {
			return 0, fmt.Errorf("this is no report: %w", protowire.ParseError(size))
		}
		if number == servicesField {
			n++
		}
		body = body[size:]
	}
	return n, nil
}
