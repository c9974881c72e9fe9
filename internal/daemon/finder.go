package daemon

import (
	"context"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/discover"
)

// finder looks for targets where the configuration says, and says when there are others. The configuration makes agents of
// them, when it is loaded. Between looks it does nothing.
type finder struct {
	changed func() // is called after targets changed, once begin was; it must not block
	tell    func([]discover.Status)
	ctx     context.Context
	end     context.CancelFunc
	looks   sync.WaitGroup

	mu      sync.Mutex
	sources []config.Discovery
	set     *discover.Set
	version int             // of the targets
	looking map[string]bool // sources that are being looked at
	again   map[string]bool // of these, those to be looked at once more
	begun   bool
	timer   *time.Timer
}

// newFinder returns a finder that looks nowhere yet. Its lists are kept below the state directory; nowhere if that is empty.
func newFinder(ctx context.Context, stateDir, instance string, changed func(), tell func([]discover.Status)) (*finder, error) {
	cfg := discover.Config{Instance: instance}
	if stateDir != "" {
		cfg.StateDir = filepath.Join(stateDir, "discovery")
	}
	set, err := discover.New(cfg)
	if err != nil {
		return nil, err
	}
	f := &finder{changed: changed, tell: tell, set: set, looking: make(map[string]bool), again: make(map[string]bool)}
	f.ctx, f.end = context.WithCancel(context.WithoutCancel(ctx))
	return f, nil
}

// candidate is what a finder is to go by when the configuration that says so is in effect.
type candidate struct {
	sources []config.Discovery
	set     *discover.Set
}

// prepare returns what it takes to look at other sources, for commit; nil if they are as before. New ones in files are looked
// at; for URLs nobody waits.
func (f *finder) prepare(sources []config.Discovery) (*candidate, error) {
	f.mu.Lock()
	same := reflect.DeepEqual(f.sources, sources)
	set := f.set
	f.mu.Unlock()
	if same {
		return nil, nil
	}
	all := make([]discover.Source, len(sources))
	for i, s := range sources {
		all[i] = discover.Source{ID: s.ID, Files: s.Files, URL: s.URL, Refresh: s.Refresh}
	}
	set, err := set.With(all)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, status := range set.Status() {
		if status.Kind == "file" && status.Next.IsZero() {
			set.Look(f.ctx, status.ID, now)
		}
	}
	return &candidate{sources: sources, set: set}, nil
}

// commit looks at other sources from now on. It returns the version of their targets, and whether nothing changed since one.
func (f *finder) commit(c *candidate, since int) (version int, same bool) {
	f.mu.Lock()
	same = f.version == since
	f.version++
	f.sources, f.set, version = c.sources, c.set, f.version
	f.mu.Unlock()
	f.tell(c.set.Status())
	f.lookDue()
	return version, same
}

// settled forgets what earlier sources found: the configuration without them is in effect.
func (f *finder) settled() error { return f.current().Prune() }

// begin begins to look by itself.
func (f *finder) begin() {
	f.mu.Lock()
	f.begun = true
	f.mu.Unlock()
	f.lookDue()
}

func (f *finder) current() *discover.Set {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set
}

// targets returns what there is, by sources, and a number that is another when that is.
func (f *finder) targets() (map[string][]config.Target, int) {
	f.mu.Lock()
	set, version := f.set, f.version
	f.mu.Unlock()
	return targetsOf(set), version
}

func targetsOf(set *discover.Set) map[string][]config.Target {
	all := make(map[string][]config.Target)
	for id, list := range set.Targets() {
		for _, t := range list {
			all[id] = append(all[id], config.Target{Name: t.Name, Address: t.Address, Labels: t.Labels})
		}
	}
	return all
}

// paths returns the files, and patterns of files, whose changes touched wants to hear of.
func (f *finder) paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var paths []string
	for _, s := range f.sources {
		paths = append(paths, s.Files...)
	}
	return paths
}

// touched looks at all files again.
func (f *finder) touched() {
	set := f.current()
	for _, status := range set.Status() {
		if status.Kind == "file" {
			f.look(set, status.ID)
		}
	}
}

// lookDue looks at what is due, and again when something is the next time.
func (f *finder) lookDue() {
	set := f.current()
	for _, id := range set.Due(time.Now()) {
		f.look(set, id)
	}
	f.arm()
}

// look looks at a source; nobody waits for it.
func (f *finder) look(set *discover.Set, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.begun || f.ctx.Err() != nil {
		return
	}
	if f.looking[id] {
		f.again[id] = true // something may have changed since
		return
	}
	f.looking[id] = true
	f.looks.Go(func() {
		changed := set.Look(f.ctx, id, time.Now())
		f.looked(set, id, changed)
		f.arm()
	})
}

func (f *finder) looked(set *discover.Set, id string, changed bool) {
	f.mu.Lock()
	current, again := f.set, f.again[id]
	delete(f.looking, id)
	delete(f.again, id)
	if changed { // also for those that share the source by now
		f.version++
	}
	f.mu.Unlock()
	if current == set {
		f.tell(set.Status())
	}
	if changed {
		f.changed()
	}
	if again {
		f.look(current, id)
	}
}

func (f *finder) arm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
	}
	next, ok := f.set.Next()
	if !ok || !f.begun || f.ctx.Err() != nil {
		return
	}
	f.timer = time.AfterFunc(max(time.Until(next), time.Millisecond), f.lookDue)
}

// close ends all looks.
func (f *finder) close() {
	f.end()
	f.mu.Lock()
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	f.looks.Wait()
}

// findFirst returns the configuration with the targets that are known at the start: those of files, and those that the last
// process knew.
func (d *Daemon) findFirst(ctx context.Context, stateDir string) (*config.Config, error) {
	cfg := d.o.Config
	d.last.files = d.o.Files
	changed := func() { d.system.Changed() }
	var err error
	if d.find, err = newFinder(ctx, stateDir, cfg.PollerID, changed, d.tell.sources); err != nil {
		return nil, err
	}
	if d.o.Load == nil || len(cfg.Discovery) == 0 {
		return cfg, nil
	}
	loaded, sources := d.readWith(nil)
	if loaded.Err != nil {
		d.find.close()
		return nil, loaded.Err
	}
	if sources != nil {
		d.last.found, _ = d.find.commit(sources, 0)
	}
	d.tell.skipped(loaded.Config.Skipped, loaded.Config.SkippedTotal)
	return loaded.Config, nil
}
