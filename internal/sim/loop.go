package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Loop is what a poller can't do without: it asks every check of every agent once an interval, wraps the answers in core's
// envelope and reports each cycle to core. It supervises nothing, keeps nothing, and knows no host keys, breakers or
// retries; an error ends it. It is what the poller's cost is measured against.
type Loop struct {
	cfg    *config.Config
	atOnce int
	agents map[*check.Agent]monitoring.AgentServiceClient
	conns  []*grpc.ClientConn
	core   monitoring.PollerServiceClient

	calls  sync.WaitGroup
	cancel context.CancelCauseFunc
	order  sync.Mutex // one report after the other
}

// round is a cycle of a Loop.
type round struct {
	at time.Time

	mu       sync.Mutex
	left     int
	statuses []*monitoring.ServiceStatus
}

// RunLoop runs a Loop until ctx ends, and then lets the interval that has begun come to its end. Agents start in the poller's slots; or with
// atOnce above 0 all at the begin of the interval, so many of them at a time. Only addresses, checks, and the times of
// the configuration count, all in plaintext, and each check has to be due in each interval.
func RunLoop(ctx context.Context, cfg *config.Config, atOnce int) error {
	l := &Loop{cfg: cfg, atOnce: atOnce, agents: make(map[*check.Agent]monitoring.AgentServiceClient, len(cfg.Agents))}
	defer l.close()
	core, err := l.connect(cfg.Core.Addresses[0])
	if err != nil {
		return err
	}
	l.core = monitoring.NewPollerServiceClient(core)
	for i := range cfg.Agents {
		cc, err := l.connect(cfg.Agents[i].Address)
		if err != nil {
			return err
		}
		l.agents[cfg.Agents[i]] = monitoring.NewAgentServiceClient(cc)
	}
	calls, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	l.cancel = cancel
	if err := l.register(calls); err != nil {
		return err
	}
	if atOnce > 0 {
		l.runAtOnce(ctx, calls)
	} else {
		l.runInSlots(ctx, calls)
	}
	l.calls.Wait()
	return context.Cause(calls)
}

// connect makes a lazy connection as lean as the poller's own.
func (l *Loop) connect(address string) (*grpc.ClientConn, error) {
	const bufferSize = 4 << 10
	cc, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}),
		grpc.WithReadBufferSize(bufferSize), grpc.WithWriteBufferSize(bufferSize),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("the loop can't prepare the connection to %s: %w", address, err)
	}
	l.conns = append(l.conns, cc)
	return cc, nil
}

func (l *Loop) close() {
	for _, cc := range l.conns {
		_ = cc.Close() // nothing is under way on it
	}
}

// register makes the loop known to core, which loses reports of strangers.
func (l *Loop) register(ctx context.Context) error {
	stream, err := l.core.StreamStatus(ctx)
	if err != nil {
		return fmt.Errorf("the loop can't register with core: %w", err)
	}
	chunk := &monitoring.PollerStatusChunk{
		PollerId: l.cfg.PollerID, Partition: l.cfg.Partition, SourceIp: l.cfg.SourceIP,
		Timestamp: time.Now().Unix(), IsFinal: true, TotalChunks: 1,
	}
	if err := stream.Send(chunk); err != nil {
		return fmt.Errorf("the loop can't register with core: %w", err)
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		return fmt.Errorf("the loop can't register with core: %w", err)
	}
	return nil
}

func (l *Loop) newRound() *round {
	r := &round{at: time.Now()}
	for i := range l.cfg.Agents {
		r.left += len(l.cfg.Agents[i].Checks)
	}
	r.statuses = make([]*monitoring.ServiceStatus, 0, r.left)
	return r
}

func (l *Loop) runInSlots(ctx, calls context.Context) {
	schedule := machine.NewSchedule(l.cfg.Agents, l.cfg.Poll.Interval, l.cfg.Poll.Rate, time.Now())
	var current *round
	stop := ctx.Done()
	for sleep(stop, calls.Done(), schedule.Next()) {
		slot, due := schedule.Step(time.Now())
		if !due {
			continue
		}
		stop = nil // what is begun is ended
		if slot.Last {
			stop = ctx.Done()
		}
		if slot.First {
			current = l.newRound()
		}
		for _, start := range slot.Starts {
			l.poll(calls, current, start.Agent)
		}
	}
}

func (l *Loop) runAtOnce(ctx, calls context.Context) {
	places := make(chan struct{}, l.atOnce)
	for next := time.Now(); sleep(ctx.Done(), calls.Done(), next); next = next.Add(l.cfg.Poll.Interval) {
		current := l.newRound()
		for i := range l.cfg.Agents {
			places <- struct{}{}
			done := l.poll(calls, current, l.cfg.Agents[i])
			go func() {
				done.Wait()
				<-places
			}()
		}
	}
}

// sleep waits until at; false if it is to stop, or something failed, before that.
func sleep(stop, failed <-chan struct{}, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	case <-failed:
		return false
	}
}

// poll asks all checks of an agent together.
func (l *Loop) poll(ctx context.Context, r *round, agent *check.Agent) *sync.WaitGroup {
	done := new(sync.WaitGroup)
	client := l.agents[agent]
	for i := range agent.Checks {
		l.calls.Add(1)
		done.Go(func() {
			defer l.calls.Done()
			if err := l.ask(ctx, r, client, agent, &agent.Checks[i]); err != nil {
				l.cancel(err)
			}
		})
	}
	return done
}

func (l *Loop) ask(ctx context.Context, r *round, client monitoring.AgentServiceClient, agent *check.Agent, c *check.Check) error {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	answer, err := client.GetStatus(limited, &monitoring.StatusRequest{
		ServiceName: c.Name, ServiceType: c.Type, AgentId: agent.Name, PollerId: l.cfg.PollerID, Details: c.Details, Port: c.Port,
	})
	if err != nil {
		return fmt.Errorf("the loop asked %s of %s: %w", c.Name, agent.Name, err)
	}
	message, err := json.Marshal(envelope{
		PollerID: l.cfg.PollerID, AgentID: agent.Name, Partition: l.cfg.Partition,
		ServiceType: c.Type, ServiceName: c.Name, Data: answer.GetMessage(),
	})
	if err != nil {
		return fmt.Errorf("the loop wraps the answer to %s of %s: %w", c.Name, agent.Name, err)
	}
	if r.add(&monitoring.ServiceStatus{
		ServiceName: c.Name, Available: answer.GetAvailable(), Message: message, ServiceType: c.Type,
		ResponseTime: answer.GetResponseTime(), AgentId: agent.Name, PollerId: l.cfg.PollerID,
		Partition: l.cfg.Partition, Source: "getStatus",
	}) {
		return l.report(ctx, r)
	}
	return nil
}

// envelope is what core wants around an answer.
type envelope struct {
	PollerID    string          `json:"poller_id"`
	AgentID     string          `json:"agent_id"`
	Partition   string          `json:"partition"`
	ServiceType string          `json:"service_type"`
	ServiceName string          `json:"service_name"`
	Data        json.RawMessage `json:"data"`
}

// add tells whether the round is complete with this status.
func (r *round) add(s *monitoring.ServiceStatus) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statuses = append(r.statuses, s)
	r.left--
	return r.left == 0
}

// report sends a round to core, in as many messages as it takes.
func (l *Loop) report(ctx context.Context, r *round) error {
	l.order.Lock()
	defer l.order.Unlock()
	for first := 0; first < len(r.statuses); {
		next, size := first, 0
		for ; next < len(r.statuses); next++ {
			const tagAndLength = 6
			if size += proto.Size(r.statuses[next]) + tagAndLength; size > int(l.cfg.Core.MaxMessage)-1024 && next > first {
				break
			}
		}
		limited, cancel := context.WithTimeout(ctx, l.cfg.Core.Timeout)
		response, err := l.core.ReportStatus(limited, &monitoring.PollerStatusRequest{
			Services: r.statuses[first:next], PollerId: l.cfg.PollerID, Timestamp: r.at.Unix(),
			Partition: l.cfg.Partition, SourceIp: l.cfg.SourceIP,
		})
		cancel()
		if err == nil && !response.GetReceived() {
			err = errors.New("it answers that it has not received the report")
		}
		if err != nil {
			return fmt.Errorf("the loop reports to core: %w", err)
		}
		first = next
	}
	return nil
}
