// Package actors is the poller as a tree of actors: root supervises one agent for each configured
// checker, the poller that starts their checks and gathers their statuses, and the reporter that
// delivers them to core. It is the only package that knows the actor framework.
//
// What it guarantees: every run that is due comes to exactly one status; a cycle's statuses
// become reports in the order of the cycles, each delivered at least once while the process lives
// and Spool keeps it; a panic in one actor, or in a call on its behalf, restarts that actor alone.
// No Receive blocks: calls run in goroutines and come back as messages.
package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	cmap "github.com/orcaman/concurrent-map"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/wire"
	pb "github.com/serviceradar/poller/proto/cluster"
)

// Checker is the client of one agent's checker. It is used by many goroutines at once; its calls
// end with their context. Errors are *check.Failure, or count as internal.
type Checker interface {
	// Ask returns the checker's verdict on one check.
	Ask(ctx context.Context, c *check.Check) (check.Answer, error)
	// Results returns a check's results since the last sequence.
	Results(ctx context.Context, c *check.Check, last string) (check.Answer, error)
	// Connect waits for a connection over which the checker can be asked, and has one made.
	Connect(ctx context.Context) error
	// Health connects and asks; it fails only if nobody answers.
	Health(ctx context.Context) (string, error)
	// Connections counts the connections made so far: the first is 1.
	Connections() uint64
	Close() error
}

// Core is the client of core. Errors are sorted by wire.Judge. Deliver must wait, or fail, while
// an earlier call of it is still under way.
type Core interface {
	Deliver(ctx context.Context, d wire.Delivery) error
}

// Spool is the queue of reports that are taken and not yet acknowledged. It outlives the reporter, is safe
// for concurrent use, and may block for as long as its disk does: only calls use it, no Receive.
type Spool interface {
	// Append keeps a report safe, behind all others, and with it what state it changes: keys and values for
	// Options.State of the next process, of which it understands nothing; may be nil. It returns the ids of the
	// reports it dropped because of their age, and for want of room, which may be the report itself. An id that
	// was appended before changes nothing, and is in noRoom if it was dropped at once then.
	Append(id string, at time.Time, body []byte, state map[string]string) (tooOld, noRoom []string, err error)
	// Next returns the oldest report, which stays until Ack; false if there is none. An error means that it
	// can't be read now.
	Next() (id string, body []byte, ok bool, err error)
	// Ack removes the oldest report, if it has this id.
	Ack(id string)
	// SetAside keeps what core will never take where people find it: a report that Next returned, or a part of
	// it. It does not remove the report: Ack does. An error means that it is not kept.
	SetAside(id string, body []byte, reason string) error
	// Kept tells how many reports there are, and their bytes.
	Kept() (reports int, bytes int64)
	// Safe returns nil if what is kept outlives the process, else why not.
	Safe() error
}

// Options are what a System works with.
type Options struct {
	Config *config.Config
	// Identity is who reports.
	Identity wire.Identity
	// Boot makes report ids of this process differ from those of any other of this poller.
	Boot string
	// Dial returns the client of an agent's checker; it must not block.
	Dial  func(*check.Agent) (Checker, error)
	Core  Core
	Spool Spool
	// Load returns the settings as they are to be by now, agents that did not change as in the present ones; nil if
	// nothing did. Of what an error is about nothing changes; there may be settings beside it. It is called by one goroutine at a time, and may block until ctx ends. Without
	// Load there is no Reload.
	Load func(ctx context.Context, present *config.Config) (*Settings, error)
	// State is what the spool kept of the states of earlier processes; nil if nothing.
	State   map[string]string
	Observe Observer
	// Sharing makes this one node of a cluster; nil without one.
	Sharing *Sharing
	// Log takes what the framework itself logs.
	Log *slog.Logger
}

// Settings are what can change while a System runs.
type Settings struct {
	Config *config.Config
	// Identity is who reports.
	Identity wire.Identity
	// Renewed are the TLS identities whose files changed: connections with them are made again, as all are when the poll
	// interval or what can be kept of results changes.
	Renewed []check.TLS
}

// System is a running tree of actors.
type System struct {
	env     *env
	begin   sync.Once
	stopped chan struct{}  // closed when root has stopped
	ended   chan struct{}  // closed when the calls have ended, too
	remote  *remote.Remote // nil without a cluster
}

// env is what all actors share; nothing in it changes but the settings.
type env struct {
	Boot     string
	Dial     func(*check.Agent) (Checker, error)
	Core     Core
	Spool    Spool
	State    map[string]string
	Observe  Observer
	load     func(ctx context.Context, present *config.Config) (*Settings, error)
	settings atomic.Pointer[Settings]
	system   *actor.ActorSystem
	// root, poller and reporter are where messages to them go, running or not. A PID remembers
	// its actor, so these are kept.
	root, poller, reporter, watcher, member *actor.PID
	// cluster is nil without one; epoch, obey and shares go with it.
	cluster Cluster
	epoch   time.Time
	obey    func(what string) error
	post    func(remote string, envelope *pb.Envelope)
	shares  *shares
	// turn is full while a call reads the spool's oldest report, delivers it or lets it go: one at a time, also
	// when the reporter was restarted while its predecessor's is under way.
	turn chan struct{}
	// loading is full while settings are loaded: one load at a time, also after the watcher was restarted.
	loading chan struct{}
	// workers do what actors do, and what is done on their behalf; calls are the latter.
	workers workers
	calls   sync.WaitGroup
	// ctx ends when the system has stopped, and all calls with it.
	ctx    context.Context
	cancel context.CancelFunc
	began  time.Time
}

// Names of the actors. The children's full names are below root's.
const (
	rootName     = "root"
	pollerName   = "poller"
	reporterName = "reporter"
	watcherName  = "watcher"
	memberName   = "member"
	agentPrefix  = "agent/"
)

// The framework keeps the names of actors in 1,024 times so many locked maps. With the library's 32 the empty maps alone take
// 3 MB, which the garbage collector doubles. To be looked at again with each new version of the framework: one with another
// version of this library would not notice.
func init() { cmap.SHARD_COUNT = 1 }

// Start starts the tree. The first cycle begins at once.
func Start(o Options) (*System, error) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &env{
		Boot: o.Boot, Dial: o.Dial, Core: o.Core, Spool: o.Spool, State: o.State, Observe: o.Observe, load: o.Load,
		turn: make(chan struct{}, 1), loading: make(chan struct{}, 1), ctx: ctx, cancel: cancel, began: time.Now(),
	}
	e.settings.Store(&Settings{Config: o.Config, Identity: o.Identity})
	e.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return o.Log }),
		// The framework would print messages that found nobody with all they hold.
		actor.WithDeadLetterThrottleCount(0),
		actor.WithDeadLetterThrottleInterval(time.Nanosecond),
	)
	e.system.EventStream.Subscribe(func(event any) {
		if d, ok := event.(*actor.DeadLetterEvent); ok && d.PID != nil {
			o.Observe(DeadLetter{To: d.PID.GetId(), Type: fmt.Sprintf("%T", d.Message)})
		}
	})
	s := &System{env: e, stopped: make(chan struct{}), ended: make(chan struct{})}
	if o.Sharing != nil {
		if err := s.share(o.Sharing); err != nil {
			s.close()
			return nil, err
		}
	}
	e.root, e.poller, e.reporter, e.watcher = e.system.NewLocalPID(rootName), e.pid(pollerName), e.pid(reporterName), e.pid(watcherName)
	e.member = e.pid(memberName)
	props := actor.PropsFromProducer(func() actor.Actor { return newRoot(e, s.stopped) }, actor.WithDispatcher(&e.workers))
	if _, err := e.system.Root.SpawnNamed(props, rootName); err != nil {
		s.close()
		return nil, fmt.Errorf("start the root actor: %w", err)
	}
	return s, nil
}

// Stop stops the tree in order: no new runs; what is in flight may end until half of the time
// to ctx's deadline; open cycles are closed; reports are delivered until shortly before the
// deadline. It returns when nothing runs any more, or an error when ctx ends before that. Without
// a deadline the configured shutdown_timeout holds. A second call waits for the first.
func (s *System) Stop(ctx context.Context) error {
	now := time.Now()
	left := s.env.config().ShutdownTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = deadline.Sub(now)
	} else {
		limited, cancel := context.WithTimeout(ctx, left)
		defer cancel()
		ctx = limited
	}
	s.begin.Do(func() {
		// What is kept for the end itself: a second, if there is time for it.
		end := max(left/10, min(time.Second, left/4))
		s.env.send(s.env.root, stop{half: now.Add(left / 2), by: now.Add(left - end)})
		go s.awaitEnd()
	})
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		s.env.cancel()
		return fmt.Errorf("%s in time: %w", s.unfinished(), context.Cause(ctx))
	}
}

// unfinished says what has not ended.
func (s *System) unfinished() string {
	select {
	case <-s.stopped:
		return "the actors stopped, but a call to a checker, to core or to the disk did not end"
	default:
		return "the actors did not stop"
	}
}

func (s *System) awaitEnd() {
	<-s.stopped
	s.close()
	close(s.ended)
}

// close ends what there is beside actors: calls, and the framework.
func (s *System) close() {
	s.env.cancel()
	s.env.calls.Wait()
	if s.remote != nil {
		s.remote.Shutdown(false)
	}
	s.env.system.Shutdown()
	s.env.workers.close()
}

// Alive returns nil if the root actor answers before ctx ends.
func (s *System) Alive(ctx context.Context) error {
	alive := make(chan struct{})
	s.env.send(s.env.root, ping{alive: alive})
	select {
	case <-alive:
		return nil
	case <-s.stopped:
		return errors.New("the root actor has stopped")
	case <-ctx.Done():
		return errors.New("the root actor does not answer")
	}
}

// config returns the configuration as it is now.
func (e *env) config() *config.Config { return e.settings.Load().Config }

// identity returns who reports, as it is now.
func (e *env) identity() *wire.Identity { return &e.settings.Load().Identity }

func (e *env) send(to *actor.PID, message any) { e.system.Root.Send(to, message) }

// pid returns the address of root's child, running or not.
func (e *env) pid(name string) *actor.PID { return e.system.NewLocalPID(rootName + "/" + name) }

// after sends message to an actor once d has passed.
func (e *env) after(d time.Duration, to *actor.PID, message any) *time.Timer {
	return time.AfterFunc(d, func() { e.send(to, message) })
}

// call runs work in a goroutine and sends its result to an actor. If it panics, crashed makes the
// result: what an actor starts can't end the process.
func (e *env) call(to *actor.PID, work func() any, crashed func(error) any) {
	e.calls.Add(1)
	e.workers.Schedule(func() {
		defer e.calls.Done()
		var result any
		defer func() {
			if r := recover(); r != nil {
				e.Observe(PanicRecovered{Actor: to.GetId(), Cause: fmt.Sprint(r), Stack: string(debug.Stack())})
				result = crashed(fmt.Errorf("panic in a call: %v", r))
			}
			e.send(to, result)
		}()
		result = work()
	})
}
