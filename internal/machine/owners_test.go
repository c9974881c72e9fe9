package machine_test

import (
	"fmt"
	"math"
	"math/rand"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/machine"
)

// namings are ways in which people name hosts; each returns n names that differ.
var namings = []struct {
	what string
	make func(r *rand.Rand, n int) []string
}{
	{"numbers", func(r *rand.Rand, n int) []string { return namesOf(n, r.Intn(5000), "node-%d") }},
	{"racks", func(r *rand.Rand, n int) []string {
		names, first := make([]string, n), r.Intn(5000)
		for i := range names {
			names[i] = fmt.Sprintf("checker-%04d.rack%d", first+i, i%9)
		}
		return names
	}},
	{"addresses", func(r *rand.Rand, n int) []string {
		names, a, b := make([]string, n), r.Intn(256), r.Intn(200)
		for i := range names {
			names[i] = fmt.Sprintf("10.%d.%d.%d", a, b+i/254, 1+i%254)
		}
		return names
	}},
	{"tails", func(r *rand.Rand, n int) []string { return namesOf(n, r.Intn(5000), "%d.poller.example.internal") }},
	{"random", func(r *rand.Rand, n int) []string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%x", r.Uint64())
		}
		return names
	}},
	{"short", func(r *rand.Rand, n int) []string { return namesOf(n, r.Intn(10), "%d") }},
}

func namesOf(n, first int, format string) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(format, first+i)
	}
	return names
}

// set returns nodes with the weights, and agents, named in the n-th of all ways.
func set(r *rand.Rand, n int, weights []int, agents int) ([]machine.Node, []string) {
	names := namings[n%len(namings)].make(r, len(weights))
	nodes := make([]machine.Node, len(weights))
	for i := range nodes {
		nodes[i] = machine.Node{Name: names[i], Weight: weights[i]}
	}
	return nodes, namings[n/len(namings)%len(namings)].make(r, agents)
}

// weightsOfFleets are typical.
func weightsOfFleets() [][]int {
	out := [][]int{{1000, 2000}, {1000, 1000, 2000}, {250, 1000, 1000}, {750, 1000, 1000, 1000}, {500, 1000, 2000, 4000}, {1000, 0, 1000}, {10000, 1000}}
	for n := 2; n <= 9; n++ {
		out = append(out, slices.Repeat([]int{1000}, n))
	}
	return out
}

// Whatever the names, each node's share is even.
func TestOwnersShareEvenly(t *testing.T) {
	t.Parallel()
	const agents, sets = 1000, 36
	for _, weights := range weightsOfFleets() {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewSource(1))
			total := 0
			for _, w := range weights {
				total += w
			}
			worst := 0.0
			for n := range sets {
				nodes, names := set(r, n, weights, agents)
				held := make([]int, len(nodes))
				for _, owner := range machine.Owners(nodes, names, nil) {
					held[owner]++
				}
				for i, have := range held {
					if weights[i] == 0 {
						if have > 0 {
							t.Errorf("%s has %d agents, but its weight is 0", nodes[i].Name, have)
						}
						continue
					}
					off := float64(have)*float64(total)/(agents*float64(weights[i])) - 1
					if worst = max(worst, math.Abs(off)); math.Abs(off) > 0.05 {
						t.Errorf("%s has %d agents, %+.1f %% of its share, among %v", nodes[i].Name, have, 100*off, nodes)
					}
				}
			}
			t.Logf("at most %.2f %% from even", 100*worst)
		})
	}
}

// When a node leaves or joins, or has another weight, its agents move; few others do.
func TestOwnersStay(t *testing.T) {
	t.Parallel()
	const agents, sets = 1000, 36
	for n := 3; n <= 9; n++ {
		for _, joins := range []struct {
			what    string
			weights [2]int // of the last node, before and after
		}{{"one leaves", [2]int{1000, 0}}, {"one joins", [2]int{0, 250}}, {"one goes on joining", [2]int{250, 500}}} {
			t.Run(fmt.Sprintf("%d nodes, %s", n, joins.what), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewSource(2))
				sum, most := 0, 0
				for k := range sets {
					nodes, names := set(r, k, slices.Repeat([]int{1000}, n), agents)
					last := n - 1
					nodes[last].Weight = joins.weights[0]
					before := machine.Owners(nodes, names, nil)
					nodes[last].Weight = joins.weights[1]
					moved := 0
					for i, after := range machine.Owners(nodes, names, nil) {
						if after != before[i] && after != last && before[i] != last {
							moved++
						}
					}
					sum += moved
					most = max(most, moved)
				}
				mean := float64(sum) / sets
				t.Logf("between nodes that stay, of %d agents %.1f move, at most %d", agents, mean, most)
				if mean > 0.02*agents || most > 0.04*agents {
					t.Errorf("%.1f agents move, at most %d; want 2 %%, at most 4 %%", mean, most)
				}
			})
		}
	}
}

// A node that is absent and one with weight 0 make no difference, nor does the order in which nodes and agents are given.
func TestOwnersAreAFunctionOfNames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		weights := rapid.SliceOfN(rapid.SampledFrom([]int{0, 250, 500, 1000, 1000, 3000}), 1, 9).Draw(t, "weights")
		nodes, names := set(r, r.Intn(1000), weights, rapid.IntRange(0, 200).Draw(t, "agents"))
		knowing := map[[2]string]bool{}
		for _, node := range nodes {
			for _, name := range names {
				knowing[[2]string{node.Name, name}] = r.Intn(4) > 0
			}
		}
		byName := func(nodes []machine.Node, names []string) map[string]string {
			out := map[string]string{}
			for i, owner := range machine.Owners(nodes, names, func(m, a int) bool { return knowing[[2]string{nodes[m].Name, names[a]}] }) {
				if out[names[i]] = ""; owner >= 0 {
					out[names[i]] = nodes[owner].Name
				}
			}
			return out
		}
		want := byName(nodes, names)
		for name, owner := range want {
			may := slices.ContainsFunc(nodes, func(n machine.Node) bool { return n.Weight > 0 && knowing[[2]string{n.Name, name}] })
			if may != (owner != "") || may && !knowing[[2]string{owner, name}] {
				t.Fatalf("%s belongs to %q; somebody may have it: %v", name, owner, may)
			}
		}
		r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		nodes = slices.DeleteFunc(nodes, func(n machine.Node) bool { return n.Weight == 0 })
		for name, owner := range byName(nodes, names) {
			if owner != want[name] {
				t.Fatalf("in another order %s belongs to %q, not %q", name, owner, want[name])
			}
		}
	})
}

func TestOwners(t *testing.T) {
	t.Parallel()
	agents := namesOf(100, 0, "agent-%d")
	three := []machine.Node{{Name: "a", Weight: 1000}, {Name: "b", Weight: 1000}, {Name: "c", Weight: 1000}}
	all := func(int, int) bool { return true }
	for _, tt := range []struct {
		name   string
		nodes  []machine.Node
		agents []string
		knows  func(member, agent int) bool
		want   []int // how many each has, then how many nobody has
	}{
		{"nobody", nil, agents, nil, []int{100}},
		{"one", three[:1], agents, nil, []int{100, 0}},
		{"no agents", three, nil, nil, []int{0, 0, 0, 0}},
		{"fewer agents than nodes", three, agents[:2], nil, []int{0, 1, 1, 0}},
		{"no weight at all", []machine.Node{{Name: "a"}, {Name: "b"}}, agents, nil, []int{0, 0, 100}},
		{"a weight below 0", []machine.Node{{Name: "a", Weight: -1}, {Name: "b", Weight: 1}}, agents, nil, []int{0, 100, 0}},
		{"all know all", three, agents[:99], all, []int{33, 33, 33, 0}},
		{"nobody knows", three, agents, func(int, int) bool { return false }, []int{0, 0, 0, 100}},
		{"one knows all", three, agents, func(m, _ int) bool { return m == 1 }, []int{0, 100, 0, 0}},
		{"one knows what others don't", three, agents[:99], func(m, a int) bool { return (m == 2) == (a < 9) }, []int{46, 44, 9, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make([]int, len(tt.nodes)+1)
			for _, owner := range machine.Owners(tt.nodes, tt.agents, tt.knows) {
				got[(owner+len(got))%len(got)]++
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// All versions of the program must come to the same, or agents wander whenever a node is upgraded.
func TestOwnersDoNotChange(t *testing.T) {
	t.Parallel()
	nodes := []machine.Node{{Name: "node-1", Weight: 1000}, {Name: "node-2", Weight: 1000}, {Name: "node-3", Weight: 500}}
	got := machine.Owners(nodes, namesOf(20, 0, "agent-%d"), nil)
	if want := []int{1, 0, 0, 2, 1, 0, 2, 0, 1, 1, 1, 0, 1, 0, 0, 2, 0, 1, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestOwnersAllocateNothingForAnAgent(t *testing.T) {
	nodes := []machine.Node{{Name: "a", Weight: 1000}, {Name: "b", Weight: 1000}}
	agents := namesOf(2000, 0, "agent-%d")
	few := testing.AllocsPerRun(10, func() { machine.Owners(nodes, agents[:20], nil) })
	many := testing.AllocsPerRun(10, func() { machine.Owners(nodes, agents, nil) })
	if many > few {
		t.Errorf("%v allocations for 20 agents, %v for 2000", few, many)
	}
}

func BenchmarkOwners(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("agents=%d/nodes=5", n), func(b *testing.B) {
			nodes, agents := set(rand.New(rand.NewSource(1)), 1, slices.Repeat([]int{1000}, 5), n)
			b.ReportAllocs()
			for b.Loop() {
				machine.Owners(nodes, agents, nil)
			}
			perUnit(b, n, "agent")
		})
	}
}
