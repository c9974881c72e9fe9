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
	f := &finder{changed: changed, tell: tell, set: set, looking: make(map[string]bool)}
	f.ctx, f.end = context.WithCancel(context.WithoutCancel(ctx))
	return f, nil
}

// follow looks at these sources from now on: at new ones in files at once, for URLs nobody waits. It returns whether there is
// anything new to look at.
func (f *finder) follow(sources []config.Discovery) (bool, error) {
	f.mu.Lock()
	same := reflect.DeepEqual(f.sources, sources)
	set := f.set
	f.mu.Unlock()
	if same {
		return false, nil
	}
	all := make([]discover.Source, len(sources))
	for i, s := range sources {
		all[i] = discover.Source{ID: s.ID, Files: s.Files, URL: s.URL, Refresh: s.Refresh}
	}
	set, err := set.With(all)
	if err != nil {
		return false, err
	}
	now := time.Now()
	for _, status := range set.Status() {
		if status.Kind == "file" && status.Next.IsZero() {
			set.Look(f.ctx, status.ID, now)
		}
	}
	f.mu.Lock()
	f.sources, f.set = sources, set
	f.version++
	f.mu.Unlock()
	f.tell(set.Status())
	f.lookDue()
	return true, nil
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
	all := make(map[string][]config.Target)
	for id, list := range set.Targets() {
		for _, t := range list {
			all[id] = append(all[id], config.Target{Name: t.Name, Address: t.Address, Labels: t.Labels})
		}
	}
	return all, version
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
	if !f.begun || f.looking[id] || f.ctx.Err() != nil {
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
	delete(f.looking, id)
	current := f.set == set
	if changed && current {
		f.version++
	}
	f.mu.Unlock()
	if current {
		f.tell(set.Status())
	}
	if changed && current {
		f.changed()
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
	loaded, found := d.readWith(nil, 0)
	if loaded.Err != nil {
		d.find.close()
		return nil, loaded.Err
	}
	d.last.found = found
	d.tell.skipped(loaded.Config.Skipped)
	return loaded.Config, nil
}
