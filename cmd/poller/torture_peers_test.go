//go:build torture && linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// outages are core's.
type outages struct {
	host    *sim.Host
	address string

	// What follows is to be read when begin's stop has returned.

	cuts      []time.Time // when something was done that may cut connections
	away, ran time.Duration
}

// listen listens where it did before. The address is not one that the connections of others may have as theirs.
func (o *outages) listen() (net.Listener, error) {
	if o.address == "" {
		o.address = "127.7.0.1:0"
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", o.address)
	if err == nil {
		o.address = l.Addr().String()
	}
	return l, err
}

// begin has core go and come until stop, which leaves it there.
func (o *outages) begin(t *testing.T, seed uint64) (stop func()) {
	t.Helper()
	over := make(chan struct{})
	var course sync.WaitGroup
	course.Go(func() { o.course(t, rand.New(rand.NewPCG(seed, 2)), over) })
	stop = sync.OnceFunc(func() {
		close(over)
		course.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// course is random. Most outages begin with a time in which core takes reports and does not answer, so that the
// connections are cut, or the poller is killed, in the middle of a call.
func (o *outages) course(t *testing.T, r *rand.Rand, over <-chan struct{}) {
	began := time.Now()
	for pass(over, between(r, shortest, longest*3/2)) {
		left := time.Now()
		if r.IntN(3) > 0 {
			o.set(t, sim.Fault{Kind: sim.KindHang, AfterTaking: true})
			pass(over, between(r, 0, waitOfCore*3/4))
		}
		gone, length := sim.Fault{Kind: sim.KindDown}, between(r, shortest, longest)
		if r.IntN(3) == 0 {
			gone.Kind = sim.KindReset
		}
		if r.IntN(4) == 0 {
			length *= 2
		}
		o.set(t, gone)
		pass(over, length)
		o.set(t, sim.Fault{})
		o.away += time.Since(left)
	}
	o.ran = time.Since(began)
}

func (o *outages) set(t *testing.T, f sim.Fault) {
	o.cuts = append(o.cuts, time.Now())
	if err := o.host.Set(f); err != nil {
		t.Errorf("core: %v", err)
	}
}

// pass lets a time pass; false if all is over before.
func pass(over <-chan struct{}, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-over:
		return false
	}
}

// newsCheck is the check that has results.
const newsCheck = "news"

// source is what the checkers answer. Each answer says which time the check was asked, so that none can pass for
// another; results say which news they have.
type source struct {
	mu    sync.Mutex
	asked map[checkOf]int
	news  int   // there are so many
	from  []int // each time that news were asked for: those that were known
}

type checkOf struct{ agent, check string }

func (s *source) behaviour() sim.Behaviour {
	return sim.Behaviour{Answer: s.answer, Results: s.results}
}

func (s *source) answer(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = make(map[checkOf]int)
	}
	k := checkOf{r.GetAgentId(), r.GetServiceName()}
	s.asked[k]++
	return &monitoring.StatusResponse{Available: true, Message: fmt.Appendf(nil, `{"asked":%d}`, s.asked[k])}, nil
}

// results has one more each time, and tells all that come after the sequence.
func (s *source) results(_ context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := 0
	if last := r.GetLastSequence(); last != "" {
		var err error
		if from, err = strconv.Atoi(last); err != nil {
			return nil, err
		}
	}
	s.from = append(s.from, from)
	s.news++
	return &monitoring.ResultsResponse{
		Available: true, HasNewData: true, CurrentSequence: strconv.Itoa(s.news),
		Data: fmt.Appendf(nil, `{"from":%d,"to":%d}`, from, s.news),
	}, nil
}

// answered is what core reads of an answer of the source's, or of a run that came to none.
type answered struct {
	Asked    int
	From, To int
	Reason   string
}

func readAnswer(s *monitoring.ServiceStatus) (answered, error) {
	var message struct{ Data answered }
	if err := json.Unmarshal(s.GetMessage(), &message); err != nil {
		return answered{}, fmt.Errorf("%s/%s: %w in %s", s.GetAgentId(), s.GetServiceName(), err, s.GetMessage())
	}
	return message.Data, nil
}
