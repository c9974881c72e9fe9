package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

const (
	// settle is how long the watcher waits after a change for the next: files are written in pieces, and several at a time.
	settle = 250 * time.Millisecond
	// mostSettle is how long it does so at most, for something may be changing all the time.
	mostSettle = 2 * time.Second
	// lookEvery is how often it looks without being told to: on some file systems nobody hears of changes.
	lookEvery = 30 * time.Second
)

// watcher looks for new settings when something may have changed, and hands them to root. It loads one
// at a time; who asks while it does gets the outcome of the next.
type watcher struct {
	env         *env
	incarnation uint64
	self        *actor.PID
	timer       *time.Timer
	loading     bool
	changed     time.Time // when the first change was told that no load has seen; zero if none was
	waiters     []waiter  // of the load that is under way
	next        []waiter  // of the one after that
	failure     string    // what the last load failed for; empty if it did not
}

func newWatcher(e *env, incarnation uint64, self *actor.PID) *watcher {
	return &watcher{env: e, incarnation: incarnation, self: self}
}

func (w *watcher) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		w.lookIn(lookEvery)
	case look:
		w.look(m.waits, time.Now())
	case lookDue:
		if m.incarnation == w.incarnation {
			w.load()
		}
	case loaded:
		if m.incarnation == w.incarnation {
			w.loaded(m)
		}
	case *actor.Stopping:
		w.timer.Stop()
		err := errors.New("the reload was given up, because its actor failed or the poller is stopping")
		tell(w.waiters, err)
		tell(w.next, err)
	}
}

func (w *watcher) lookIn(d time.Duration) {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = w.env.after(d, w.self, lookDue{incarnation: w.incarnation})
}

func (w *watcher) look(waits waiter, now time.Time) {
	if waits == nil {
		if w.changed.IsZero() {
			w.changed = now
		}
		w.lookIn(min(settle, w.changed.Add(mostSettle).Sub(now)))
		return
	}
	w.next = append(w.next, waits)
	w.load()
}

func (w *watcher) load() {
	if w.loading {
		return // and then again, if something was told since
	}
	w.loading, w.changed = true, time.Time{}
	w.waiters, w.next = w.next, nil
	m := loaded{incarnation: w.incarnation}
	waiters := w.waiters
	w.env.call(w.self, func() any {
		m.applied, m.err = w.env.loadSettings(waiters)
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

// loadSettings loads settings and hands them to root, with those who wait for that; false if there are none. The watcher may
// have failed by then: what was loaded is in effect all the same, because it is not told again.
func (e *env) loadSettings(waiters []waiter) (applied bool, err error) {
	select {
	case e.loading <- struct{}{}:
		defer func() { <-e.loading }()
	case <-e.ctx.Done():
		return false, errStopping
	}
	settings, err := e.load(e.ctx, e.config())
	if settings != nil {
		e.send(e.root, reconfigure{settings: settings, waiters: waiters, err: err})
	}
	return settings != nil, err
}

func (w *watcher) loaded(m loaded) {
	w.loading = false
	before := w.failure
	w.failure = ""
	if m.err != nil {
		w.failure = m.err.Error()
	}
	switch asked := len(w.waiters) > 0; { // the same again is told only to those who asked
	case m.err != nil && (w.failure != before || asked):
		w.env.Observe(ReloadFailed{Err: m.err})
	case m.err == nil && !m.applied && (before != "" || asked):
		w.env.Observe(Reloaded{Config: w.env.config()})
	}
	if !m.applied {
		tell(w.waiters, m.err)
	}
	w.waiters = nil
	if len(w.next) > 0 {
		w.load()
	} else {
		w.lookIn(w.rest())
	}
}

// rest is how long it is to the next look.
func (w *watcher) rest() time.Duration {
	if !w.changed.IsZero() {
		return settle
	}
	return lookEvery
}

// Reload looks for new settings now and waits until they are in effect: also if there are none. The error says why
// they are not; the present ones are kept then.
func (s *System) Reload(ctx context.Context) error {
	if s.env.load == nil {
		return errors.New("this poller has no configuration that it could load again")
	}
	outcome := make(chan error, 1)
	s.env.send(s.env.root, look{waits: outcome})
	select {
	case err := <-outcome:
		return err
	case <-s.stopped:
		return errStopping
	case <-ctx.Done():
		return fmt.Errorf("the reload is still under way: %w", context.Cause(ctx))
	}
}

// Changed says that there may be new settings. They are looked for when nothing more was said for a moment.
func (s *System) Changed() {
	if s.env.load != nil {
		s.env.send(s.env.root, look{})
	}
}
