package check_test

import (
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// Assertions are the same if they are written the same, whoever compiled them; and whatever is asserted, the same is asked.
func TestChecksWithAssertions(t *testing.T) {
	t.Parallel()
	compiled := func(texts ...string) *check.Assertions {
		return &check.Assertions{Texts: texts, Unmet: func(check.Answer) string { return "" }}
	}
	plain := check.Check{Name: "a", Type: "port", Interval: time.Second}
	one := plain
	one.Assert = compiled("data.x")
	for _, tt := range []struct {
		name   string
		change func(c *check.Check)
		equal  bool
		asks   bool
	}{
		{"nothing", func(*check.Check) {}, true, true},
		{"compiled again", func(c *check.Check) { c.Assert = compiled("data.x") }, true, true},
		{"another", func(c *check.Check) { c.Assert = compiled("data.y") }, false, true},
		{"one more", func(c *check.Check) { c.Assert = compiled("data.x", "data.y") }, false, true},
		{"none", func(c *check.Check) { c.Assert = nil }, false, true},
		{"confirmed", func(c *check.Check) { c.Confirm = 3 }, false, true},
		{"of another type", func(c *check.Check) { c.Type = "icmp" }, false, false},
	} {
		other := one
		tt.change(&other)
		if got := one.Equal(other); got != tt.equal || other.Equal(one) != tt.equal {
			t.Errorf("%s: equal is %v", tt.name, got)
		}
		if got := one.AsksTheSame(other); got != tt.asks || other.AsksTheSame(one) != tt.asks {
			t.Errorf("%s: asks the same is %v", tt.name, got)
		}
	}
	if plain.Equal(one) || !plain.Equal(plain) {
		t.Error("a check without assertions is mistaken")
	}
}
