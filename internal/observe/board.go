package observe

import (
	"slices"
	"strings"
	"sync"
	"time"
)

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
}

// Set changes a condition as of now.
func (b *Board) Set(now time.Time, name string, ok bool, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.conditions[name]
	if !known || c.OK != ok {
		c = Condition{Name: name, OK: ok, Since: now}
	}
	c.Detail = detail
	if b.conditions == nil {
		b.conditions = make(map[string]Condition)
	}
	b.conditions[name] = c
}

// Read returns the conditions by name, and whether all are OK.
func (b *Board) Read() (ready bool, conditions []Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ready = true
	for _, c := range b.conditions {
		conditions = append(conditions, c)
		ready = ready && c.OK
	}
	slices.SortFunc(conditions, func(x, y Condition) int { return strings.Compare(x.Name, y.Name) })
	return ready, conditions
}
