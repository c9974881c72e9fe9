package observe

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// at returns what the condition has become by now.
func (c Condition) at(now time.Time) Condition {
	if !c.until.IsZero() && !now.Before(c.until) {
		c.OK, c.Detail, c.Since = false, c.then, c.until
	}
	return c
}

// Board holds the conditions that readiness is made of.
type Board struct {
	mu         sync.Mutex
	conditions map[string]Condition
}

// Condition is one thing that readiness depends on, or that explains it.
type Condition struct {
	Name string `json:"name"`
	// OK is false if the poller can't be relied on because of this.
	OK bool `json:"ok"`
	// Detail is for people; empty if there is nothing to say.
	Detail string `json:"detail,omitempty"`
	// Since is when OK last changed.
	Since time.Time `json:"since"`

	until time.Time // when it ceases to be OK by itself; zero if it does not
	then  string    // the detail from then on
	// explain makes the detail when the condition is read, if it is not nil.
	explain func() string
}

// Set changes a condition as of now.
func (b *Board) Set(now time.Time, name string, ok bool, detail string) {
	b.set(now, Condition{Name: name, OK: ok, Detail: detail})
}

// SetLazy is Set with a detail that is too costly to be made until somebody reads it. The function is
// called by Read, from any goroutine, and may use the board.
func (b *Board) SetLazy(now time.Time, name string, ok bool, detail func() string) {
	b.set(now, Condition{Name: name, OK: ok, explain: detail})
}

func (b *Board) set(now time.Time, c Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.Since = now
	if before, known := b.conditions[c.Name]; known {
		if before = before.at(now); before.OK == c.OK {
			c.Since = before.Since
		}
	}
	b.put(c)
}

// SetFor changes a condition to OK as of now, unless nobody does so again for a while: then it is
// not, and the detail says why.
func (b *Board) SetFor(now time.Time, name string, while time.Duration, detail string) {
	b.Set(now, name, true, "")
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.conditions[name]
	c.until, c.then = now.Add(while), detail
	b.put(c)
}

func (b *Board) put(c Condition) {
	if b.conditions == nil {
		b.conditions = make(map[string]Condition)
	}
	b.conditions[c.Name] = c
}

// Read returns the conditions at now, by name, and whether all are OK.
func (b *Board) Read(now time.Time) (ready bool, conditions []Condition) {
	ready = true
	for _, c := range b.all() {
		if c = c.at(now); c.explain != nil {
			c.Detail = c.explain()
		}
		conditions = append(conditions, c)
		ready = ready && c.OK
	}
	slices.SortFunc(conditions, func(x, y Condition) int { return strings.Compare(x.Name, y.Name) })
	return ready, conditions
}

func (b *Board) all() []Condition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.conditions))
}
