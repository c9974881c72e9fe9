package machine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/machine"
)

// TestPinsConverge: nodes that have told each other what they know, in any order and as often as they like, know the same, which is
// what was set last of each agent; and as long as they know different things, their hashes differ.
func TestPinsConverge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([]*machine.Pins, rapid.IntRange(2, 5).Draw(t, "nodes"))
		for i := range nodes {
			nodes[i] = machine.NewPins()
		}
		one := rapid.IntRange(0, len(nodes)-1)
		agents := rapid.SliceOfN(rapid.SampledFrom([]string{"db", "dns", "web"}), 1, 3)
		names := rapid.SampledFrom([]string{"", "a", "b", "c"})
		newest := make(map[string]machine.Pin)
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			p := nodes[one.Draw(t, "node")]
			if rapid.Bool().Draw(t, "tells") {
				from := nodes[one.Draw(t, "from")]
				before := p.Pinned()
				changed := p.Merge(from.All())
				after := p.Pinned()
				for _, agent := range []string{"db", "dns", "web"} {
					if differs := before[agent] != after[agent]; differs != slices.Contains(changed, agent) {
						t.Fatalf("from %v to %v, %v changed", before, after, changed)
					}
				}
				if again := p.Merge(from.All()); len(again) > 0 {
					t.Fatalf("heard again, %v changed", again)
				}
				continue
			}
			moved, to := agents.Draw(t, "agents"), names.Draw(t, "to")
			if err := p.Set(moved, to, int64(rapid.IntRange(1, 9).Draw(t, "now"))); err != nil {
				t.Fatal(err)
			}
			for _, agent := range moved {
				pin := p.All()[agent]
				if pin.Node != to {
					t.Fatalf("%s was moved to %q, and is pinned to %+v", agent, to, pin)
				}
				if known := newest[agent]; pin.Stamp > known.Stamp || pin.Stamp == known.Stamp && pin.Node > known.Node {
					newest[agent] = pin
				}
			}
		}
		for i, p := range nodes {
			for _, other := range nodes[:i] {
				if same := cmp.Equal(p.All(), other.All()); same != (p.Hash() == other.Hash()) {
					t.Fatalf("the hashes of %v and %v are %s and %s", p.All(), other.All(), p.Hash(), other.Hash())
				}
			}
		}
		for range 2 {
			for _, i := range rapid.Permutation([]int{0, 1, 2, 3, 4}[:len(nodes)]).Draw(t, "order") {
				for _, other := range nodes {
					other.Merge(nodes[i].All())
				}
			}
		}
		for _, p := range nodes {
			if diff := cmp.Diff(newest, p.All()); diff != "" {
				t.Fatalf("what was set last, and what is known (-want +got):\n%s", diff)
			}
			if p.Hash() != nodes[0].Hash() {
				t.Fatal("two that know the same have different hashes")
			}
		}
	})
}

// There is an end to what is remembered, and what does not fit changes nothing; but what others know fits in any case, or they would never agree.
func TestPinsAreBounded(t *testing.T) {
	t.Parallel()
	p, other := machine.NewPins(), machine.NewPins()
	if p.Hash() == "" || p.Hash() != other.Hash() {
		t.Errorf("of nothing the hashes are %q and %q", p.Hash(), other.Hash())
	}
	many := namesOf(10_000, 0, "agent-%d")
	if err := p.Set(many[1:], "a", 1); err != nil {
		t.Fatal(err)
	}
	before := p.Hash()
	if err := p.Set([]string{"new", "newer", "new"}, "a", 2); err == nil || !strings.Contains(err.Error(), "2 agents more can't be moved: 9999 were, of at most 10000") ||
		p.Hash() != before || p.Pinned()["new"] != "" {
		t.Errorf("two too many: %v", err)
	}
	for _, agents := range [][]string{{many[0], many[0]}, many} {
		if err := p.Set(agents, "b", 3); err != nil {
			t.Error(err)
		}
	}
	if err := other.Set([]string{"new"}, "a", 1); err != nil {
		t.Error(err)
	}
	p.Merge(other.All())
	other.Merge(p.All())
	if n := len(p.All()); n != 10_001 || p.Hash() != other.Hash() {
		t.Errorf("two of which one was full know %d and %d", n, len(other.All()))
	}
}

func TestPinsPlace(t *testing.T) {
	t.Parallel()
	members := []machine.Node{
		{Name: "a", Weight: 1, Pinnable: true}, {Name: "b", Weight: 1000, Pinnable: true}, {Name: "c", Pinnable: true}, {Name: "d", Weight: 1000},
	}
	agents := namesOf(6, 1, "x%d")
	pins := machine.NewPins()
	for agent, node := range map[string]string{"x1": "b", "x2": "c", "x3": "d", "x4": "a", "x5": "b", "x6": "e", "x9": "b"} {
		if err := pins.Set([]string{agent}, node, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := pins.Set([]string{"x5"}, "", 1); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		owners []int
		knows  func(member, agent int) bool
		want   []int
	}{
		{"to those that may have them", []int{0, 0, 0, 1, 0, 0}, nil, []int{1, 0, 0, 0, 0, 0}},
		{"who have them anyway", []int{1, 1, 1, 0, 1, 1}, nil, []int{1, 1, 1, 0, 1, 1}},
		{"what nobody else may have", []int{-1, -1, -1, -1, -1, -1}, nil, []int{1, -1, -1, 0, -1, -1}},
		{"but not to who does not know", []int{0, 0, 0, 1, 0, 0}, func(m, a int) bool { return m != 1 || a > 0 }, []int{0, 0, 0, 0, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := slices.Clone(tt.owners)
			pins.Place(got, members, agents, tt.knows)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v became %v, want %v", tt.owners, got, tt.want)
			}
		})
	}
	owners := []int{0, 0, 0, 1, 0, 0}
	pins.Place(owners, nil, agents, nil)
	if want := fmt.Sprint([]int{0, 0, 0, 1, 0, 0}); fmt.Sprint(owners) != want {
		t.Errorf("without members: %v", owners)
	}
}
