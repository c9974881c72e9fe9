package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// agentLike answers as ServiceRadar's agent does: a status for a process, a sweep in chunks that has
// news once, a list of devices from what is called sync, and no results for anything else.
type agentLike struct {
	mu    sync.Mutex
	asked map[string][]string // the last sequences, by check
}

func (a *agentLike) behaviour() sim.Behaviour {
	return sim.Behaviour{
		Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			return &monitoring.StatusResponse{
				Available: true, Message: fmt.Appendf(nil, `{"active":true,"process_name":%q,"status":"active"}`, r.GetDetails()),
			}, nil
		},
		Chunks: func(_ context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			a.mu.Lock()
			a.asked[r.GetServiceName()] = append(a.asked[r.GetServiceName()], r.GetLastSequence())
			a.mu.Unlock()
			switch {
			case r.GetServiceType() == "sweep" && r.GetLastSequence() == "":
				for i, data := range []string{`{"network":"10.0.0.0/24","hosts":[{"ip":"10.0.0.1"}]}`, `{"hosts":[{"ip":"10.0.0.2"}]}`} {
					if err := send(&monitoring.ResultsChunk{
						Data: []byte(data), ChunkIndex: int32(i), TotalChunks: 2, IsFinal: i == 1, CurrentSequence: "sweep-1",
					}); err != nil {
						return err
					}
				}
				return nil
			case r.GetServiceType() == "sweep":
				return send(&monitoring.ResultsChunk{Data: []byte("{}"), IsFinal: true, TotalChunks: 1, CurrentSequence: r.GetLastSequence()})
			}
			return send(&monitoring.ResultsChunk{Data: []byte(`[{"device_id":"d1"}]`), IsFinal: true, TotalChunks: 1, CurrentSequence: "sync-1"})
		},
	}
}

// TestDropIn: a configuration of ServiceRadar's poller, converted, does the same work: the same
// checkers are asked, and the same core gets it all.
func TestDropIn(t *testing.T) {
	t.Parallel()
	like := &agentLike{asked: make(map[string][]string)}
	agent := checker(t, like.behaviour())
	core, coreAddress := startCore(t)
	r := poller(t, "convert", jsonFile(t, fmt.Sprintf(`{
		"agents": {"local-agent": {"address": %q, "security": {"mode": "none"}, "checks": [
			{"service_type": "process", "service_name": "serviceradar-agent", "details": "serviceradar-agent"},
			{"service_type": "sweep", "service_name": "network_sweep", "details": "", "results_interval": "1s"},
			{"service_type": "grpc", "service_name": "sync", "details": "127.0.0.1:50058", "results_interval": "1s"},
			{"service_type": "process", "service_name": "no results", "results_interval": "1s"}]}},
		"core_address": %q, "listen_addr": ":50053", "poll_interval": "1s", "poller_id": "default-poller", "partition": "default",
		"source_ip": "127.0.0.1", "kv_domain": "leaf", "service_name": "PollerService", "service_type": "grpc", "security": {"mode": "none"}}`,
		agent, coreAddress)))
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	p := start(t, configFile(t, "admin.listen = \"127.0.0.1:0\"\n%s", r.stdout))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := core.Await(ctx, func(d []sim.Delivery) bool { return like.askedTwice() && len(arrived(d)["sync:sync"]) >= 2 }); err != nil {
		t.Fatal(err)
	}
	p.await(t, "checker has no results for this check")
	p.signal(t)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	like.wantAsked(t)
	wantDropIn(t, core)
}

// askedTwice tells whether both results were asked for again.
func (a *agentLike) askedTwice() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked["network_sweep"]) >= 2 && len(a.asked["sync"]) >= 2
}

// arrived returns the messages of the available statuses, by name and type. Those that are not ran out of
// their time, on a machine that is busy.
func arrived(deliveries []sim.Delivery) map[string][]string {
	messages := make(map[string][]string)
	for _, d := range deliveries {
		for _, s := range d.Services {
			if key := s.GetServiceName() + ":" + s.GetServiceType(); s.GetAvailable() {
				messages[key] = append(messages[key], string(s.GetMessage()))
			}
		}
	}
	return messages
}

// wantAsked wants each sequence to be asked on from.
func (a *agentLike) wantAsked(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, sequence := range map[string]string{"network_sweep": "sweep-1", "sync": "sync-1"} {
		asked := a.asked[name]
		first := slices.Index(asked, sequence) // a first answer that took too long was asked for again
		if first < 1 || strings.Trim(strings.Join(asked[:first], ""), " ") != "" || slices.ContainsFunc(asked[first:], func(s string) bool { return s != sequence }) {
			t.Errorf("%s was asked for from %q", name, asked)
		}
	}
}

func wantDropIn(t *testing.T, core *sim.Core) {
	t.Helper()
	const host = `"host_ip":"127.0.0.1","ip":"127.0.0.1","host_name":"127.0.0.1","hostname":"127.0.0.1"`
	const head = `{"poller_id":"default-poller","agent_id":"local-agent","partition":"default",`
	want := map[string]string{
		"serviceradar-agent:process": head + `"service_type":"process","service_name":"serviceradar-agent","data":` +
			`{"active":true,"process_name":"serviceradar-agent","status_text":"active",` + host + `,"status":{` + host + `}}}`,
		"network_sweep:sweep": head + `"service_type":"sweep","service_name":"network_sweep","data":` +
			`{"network":"10.0.0.0/24","hosts":[{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}],` + host + `,"status":{` + host + `}}}`,
		"sync:sync": `[{"device_id":"d1"}]`,
	}
	messages := arrived(core.Deliveries())
	for key, all := range messages {
		for _, got := range all {
			if got != want[key] {
				t.Errorf("%s: %s, want %s", key, got, want[key])
			}
		}
	}
	if len(messages["network_sweep:sweep"]) != 1 || len(messages["serviceradar-agent:process"]) == 0 || len(messages["sync:sync"]) < 2 {
		t.Errorf("core has %v, want the sweep once, and the others", messages)
	}
	if kv := core.Deliveries()[0].Services[0].GetKvStoreId(); kv != "leaf" {
		t.Errorf("kv_store_id %q", kv)
	}
	if v, lost := core.Violations(), core.Dropped(); len(v) > 0 || len(lost) > 0 {
		t.Errorf("against the contract: %q; dropped: %v", v, lost)
	}
}
