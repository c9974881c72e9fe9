package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// saw makes the runs of one agent: "1@0.3" is one by the first node after 0.3 s; "1@0.3..4.3" are those of each second from then on.
func saw(t *testing.T, script string) []sighting {
	t.Helper()
	var all []sighting
	for word := range strings.FieldsSeq(script) {
		var node int
		var from, to float64
		if _, err := fmt.Sscanf(word, "%d@%f..%f", &node, &from, &to); err != nil {
			if _, err := fmt.Sscanf(word, "%d@%f", &node, &from); err != nil {
				t.Fatalf("%q: %v", word, err)
			}
			to = from
		}
		for ; from <= to+.001; from++ {
			all = append(all, sighting{after(from), node - 1})
		}
	}
	return all
}

func after(s float64) time.Duration { return time.Duration(s*1000+.5) * time.Millisecond }

const secondly = time.Second

// tell is short for a list of stretches.
func tell(all []stretch) string {
	var words []string
	for _, s := range all {
		words = append(words, fmt.Sprintf("%s@%.1f-%s@%.1f", strings.TrimPrefix(nodeName(s.from.node), "n"), s.from.at.Seconds(),
			strings.TrimPrefix(nodeName(s.to.node), "n"), s.to.at.Seconds()))
	}
	return strings.ReplaceAll(strings.Join(words, " "), "obody@", "")
}

// TestFind shows that what is wrong is found, and nothing else.
func TestFind(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		runs                          string // from 0 to 10 s
		holes, doubles, twins, splits string
		moves, made, swings           int
	}{
		"one node":                     {runs: "1@0.3..9.3"},
		"late for once":                {runs: "1@0.3..3.3 1@4.7 1@5.3..9.3"},
		"handed over":                  {runs: "1@0.3..4.3 2@5.3..9.3", moves: 1},
		"handed over when due":         {runs: "1@0.3..4.3 2@5.6 2@6.3..9.3", moves: 1},
		"handed back, in time":         {runs: "1@0.3..2.3 2@3.3..6.3 1@7.3..9.3", moves: 2},
		"an orphan":                    {runs: "1@0.3..2.3 2@4.1 2@4.3..9.3", holes: "1@2.3-2@4.1", moves: 1, made: 1},
		"an orphan, handed on":         {runs: "1@0.3..2.3 2@4.1 3@4.3..9.3", holes: "1@2.3-2@4.1", moves: 2, made: 1},
		"an orphan, handed to and fro": {runs: "1@0.3..2.3 2@4.1 3@4.4 2@5.4 2@6.3..9.3", holes: "1@2.3-2@4.1", moves: 3, made: 1},
		"an orphan, doubled":           {runs: "1@0.2..2.2 2@3.84 3@3.9 3@4.2..9.2", holes: "1@2.2-2@3.8", doubles: "2@3.8-3@3.9", twins: "3@3.9-3@4.2", moves: 2},
		"missed":                       {runs: "1@0.3..4.3 1@6.3..9.3", holes: "1@4.3-1@6.3"},
		"missed at the handover":       {runs: "1@0.3..4.3 2@6.3..9.3", holes: "1@4.3-2@6.3", moves: 1},
		"missed at the begin":          {runs: "1@2.3..9.3", holes: "0.0-1@2.3"},
		"missed at the end":            {runs: "1@0.3..7.3", holes: "1@7.3-10.0"},
		"never":                        {runs: "", holes: "0.0-10.0"},
		"only before and after":        {runs: "1@-5.0..-1.0 1@11.0..15.0", holes: "1@-1.0-10.0"},
		"missed since before":          {runs: "1@-5.0..-1.0 1@1.0..9.0", holes: "1@-1.0-1@1.0"},
		"doubled since before":         {runs: "1@-5.1..-.1 2@.1 2@1.0..9.0", doubles: "1@-0.1-2@0.1", moves: 1},
		"doubled by another":           {runs: "1@0.3..4.3 2@4.4 2@5.3..9.3", doubles: "1@4.3-2@4.4", moves: 1},
		"doubled by itself":            {runs: "1@0.3..4.3 1@4.5 1@5.3..9.3", twins: "1@4.3-1@4.5"},
		"doubled in the cycle": {
			runs: "1@0.3..4.3 2@4.9 2@5.3..9.3", twins: "2@4.9-2@5.3", moves: 1,
		},
		"not doubled at the begin": {runs: "1@0.1 1@1.1..9.1"},
		"two nodes": {
			runs:    "1@0.3..5.3 2@5.4 1@6.3 2@6.4 1@7.3..9.3",
			doubles: "1@5.3-2@5.4 1@6.3-2@6.4", splits: "1@5.3-1@6.3 2@5.4-2@6.4 1@6.3-1@7.3", moves: 4,
		},
		"two nodes in turn": {
			runs:  "1@0.3..4.3 2@5.3 1@6.3..9.3",
			moves: 2, swings: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := history{saw(t, tt.runs)}.find(secondly, spell{0, after(10)})
			for what, c := range map[string]struct {
				got  []stretch
				want string
			}{"holes": {f.holes, tt.holes}, "doubles": {f.doubles, tt.doubles}, "twins": {f.twins, tt.twins}, "splits": {f.splits, tt.splits}} {
				if got := tell(c.got); got != c.want {
					t.Errorf("%s: %q, want %q", what, got, c.want)
				}
			}
			if f.moves != tt.moves || f.made != tt.made || f.swings != tt.swings {
				t.Errorf("%d moves, %d made, %d swings; want %+v", f.moves, f.made, f.swings, tt)
			}
		})
	}
}

// TestJudge has a node away from 4.5 s on, and back at 8 s; all is settled at 14 s.
func TestJudge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		runs                                              string // from 0 to 20 s
		gaps, late, holes, splits, doubles, prompt, twins string
	}{
		"taken over and back": {
			runs: "1@0.3..4.3 2@6.1 2@6.3..11.3 1@12.3..19.3", gaps: "1@4.3-2@6.1",
		},
		"taken over at once":                      {runs: "1@0.3..4.3 2@5.3..19.3", gaps: "1@4.3-2@5.3"},
		"in flight at the kill":                   {runs: "1@0.3..3.3 1@4.55 2@6.3..19.3", gaps: "1@4.5-2@6.3"},
		"never taken over":                        {runs: "1@0.3..4.3 1@9.3..19.3", gaps: "1@4.3-1@9.3"},
		"never again":                             {runs: "1@0.3..4.3", gaps: "1@4.3-14.0"},
		"goes on for a while":                     {runs: "1@0.3..5.3 2@7.3..19.3", gaps: "1@5.3-2@7.3"},
		"stands, and goes on":                     {runs: "1@0.3..4.3 1@7.3 2@8.3..19.3", gaps: "1@4.3-1@7.3"},
		"goes on for ever":                        {runs: "1@0.3..13.3 1@15.3..19.3", gaps: "1@4.3-1@5.3", holes: "1@13.3-1@15.3"},
		"missed after that":                       {runs: "1@0.3..4.3 2@6.1 2@6.3..7.3 2@9.3..19.3", gaps: "1@4.3-2@6.1", late: "2@7.3-2@9.3"},
		"missed at the return":                    {runs: "1@0.3..4.3 2@6.1 2@6.3..11.3 1@13.3..19.3", gaps: "1@4.3-2@6.1", holes: "2@11.3-1@13.3"},
		"another's":                               {runs: "3@0.3..19.3"},
		"another's, late":                         {runs: "3@0.3..4.3 2@6.3..19.3", late: "3@4.3-2@6.3"},
		"another's, missed before":                {runs: "3@0.3..2.3 3@4.3..19.3", holes: "3@2.3-3@4.3"},
		"another's, missed later":                 {runs: "3@0.3..14.3 3@16.3..19.3", holes: "3@14.3-3@16.3"},
		"another's, to and fro":                   {runs: "3@0.3..8.3 2@9.3 3@10.3..19.3"},
		"another's, to and fro later":             {runs: "3@0.3..14.3 2@15.3 3@16.3..19.3"},
		"an orphan at once":                       {runs: "1@0.3..5.3 2@5.5 2@6.3..19.3", gaps: "1@4.3-1@5.3", prompt: "1@5.3-2@5.5"},
		"an orphan at once, and back to the grid": {runs: "1@0.3..5.3 2@5.9 2@6.3..19.3", gaps: "1@4.3-1@5.3", prompt: "2@5.9-2@6.3"},
		"an orphan at once, and once more": {
			runs: "1@0.3..5.3 2@5.9 2@6.0 2@6.3..19.3", gaps: "1@4.3-1@5.3", twins: "2@5.9-2@6.0 2@6.0-2@6.3",
		},
		"another's, at once": {runs: "3@0.3..5.3 2@5.9 2@6.3..19.3", twins: "2@5.9-2@6.3"},
		"two nodes while it is away": {
			runs: "1@0.3..5.3 2@5.4 1@6.3 2@6.4..19.4", gaps: "1@4.3-1@5.3",
			prompt: "1@5.3-2@5.4 1@6.3-2@6.4", splits: "1@5.3-1@6.3 2@5.4-2@6.4",
		},
		"doubled at the return":    {runs: "1@0.3..4.3 2@6.1 2@6.3..8.3 1@8.4 1@9.3..19.3", gaps: "1@4.3-2@6.1", doubles: "2@8.3-1@8.4"},
		"doubled while it is away": {runs: "1@0.2..4.2 2@5.9 3@6.0 2@6.4 2@7.3..19.3", gaps: "1@4.2-2@5.9", doubles: "2@5.9-3@6.0 3@6.0-2@6.4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := outage{victims: []int{0}, at: after(4.5), back: after(8), settled: after(14)}
			v := history{saw(t, tt.runs)}.judge(secondly, spell{0, after(20)}, []outage{o})
			for what, c := range map[string]struct {
				got  []stretch
				want string
			}{
				"gaps": {v.gaps, tt.gaps}, "late": {v.late, tt.late}, "holes": {v.holes, tt.holes},
				"splits": {v.splits, tt.splits}, "doubles": {v.doubles, tt.doubles}, "prompt": {v.prompt, tt.prompt}, "twins": {v.twins, tt.twins},
			} {
				if got := tell(c.got); got != c.want {
					t.Errorf("%s: %q, want %q", what, got, c.want)
				}
			}
		})
	}
}

// TestJudgeAnybody has a network so bad from 4.5 to 8 s that each node may lose and gain its lease.
func TestJudgeAnybody(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ runs, late, doubles, twins, prompt, splits string }{
		"an orphan at once":                       {runs: "1@0.3..5.3 2@5.6 2@6.3..19.3", prompt: "1@5.3-2@5.6"},
		"near its node's last":                    {runs: "1@0.3..5.3 2@5.6 1@6.3..19.3", prompt: "1@5.3-2@5.6"},
		"an orphan at once, and back to the grid": {runs: "1@0.3..5.3 2@5.9 2@6.3..19.3", prompt: "2@5.9-2@6.3"},
		"regained":                {runs: "1@0.3..5.3 1@7.0 1@7.3..19.3", late: "1@5.3-1@7.0"},
		"doubled when it was due": {runs: "1@0.3..5.3 2@5.4 2@6.3..19.3", doubles: "1@5.3-2@5.4"},
		"doubled by one":          {runs: "1@0.3..5.3 1@5.4 1@6.3..19.3", twins: "1@5.3-1@5.4"},
		"two in turn, when due":   {runs: "1@0.3..5.3 2@5.4 1@6.3..19.3", doubles: "1@5.3-2@5.4", splits: "1@5.3-1@6.3"},
		"doubled later":           {runs: "1@0.3..11.3 2@11.7 2@12.3..19.3", doubles: "1@11.3-2@11.7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := outage{anybody: true, at: after(4.5), back: after(8), settled: after(14)}
			v := history{saw(t, tt.runs)}.judge(secondly, spell{0, after(20)}, []outage{o})
			for what, c := range map[string]struct {
				got  []stretch
				want string
			}{
				"gaps": {v.gaps, ""}, "late": {v.late, tt.late}, "holes": {v.holes, ""}, "splits": {v.splits, tt.splits},
				"doubles": {v.doubles, tt.doubles}, "twins": {v.twins, tt.twins}, "prompt": {v.prompt, tt.prompt},
			} {
				if got := tell(c.got); got != c.want {
					t.Errorf("%s: %q, want %q", what, got, c.want)
				}
			}
		})
	}
}

// TestStale: a node that stood still may run an agent once before it knows that it is another's, and not twice.
func TestStale(t *testing.T) {
	t.Parallel()
	o := outage{victims: []int{0}, at: after(1), back: after(5), settled: after(9)}
	for name, tt := range map[string]struct {
		runs           string
		stale, doubled int
		doubles        string // that are left
	}{
		"none":               {runs: "2@0.3..9.3"},
		"handed back":        {runs: "2@0.3..4.3 1@5.3..9.3"},
		"one":                {runs: "2@0.3..4.3 1@5.01 2@5.3..9.3", stale: 1, doubled: 1},
		"one, far away":      {runs: "2@0.6..4.6 1@5.1 2@5.6..9.6", stale: 1},
		"one, after it":      {runs: "2@0.3..5.3 1@5.4 2@6.3..9.3", stale: 1, doubled: 1},
		"not taken over":     {runs: "1@0.3..5.3 2@6.3..9.3"},
		"the other's, later": {runs: "2@0.3..5.3 3@6.3 2@7.3..9.3"},
		"one, later":         {runs: "2@0.3..6.3 1@6.4 2@7.3..9.3", doubles: "2@6.3-1@6.4"},
		"two":                {runs: "2@0.3..4.3 1@5.01 2@5.3 1@5.4 2@6.3..9.3", stale: 1, doubled: 1, doubles: "2@5.3-1@5.4"},
		"lent for one run":   {runs: "2@0.3..4.3 1@5.3 2@6.3..9.3"},
		"two in a row":       {runs: "2@0.3..4.3 1@5.1 1@5.15 2@5.3..9.3", doubles: "1@5.2-2@5.3"},
		"the other's":        {runs: "2@0.3..4.3 3@5.1 2@5.3..9.3", doubles: "3@5.1-2@5.3"},
		"nothing at all":     {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := history{saw(t, tt.runs)}
			before := slices.Clone(all[0])
			rest, stale, doubled := all.withoutStale(secondly, o)
			if got := tell(rest.find(secondly, spell{0, after(9)}).doubles); stale != tt.stale || doubled != tt.doubled || got != tt.doubles {
				t.Errorf("%d stale, %d of them doubled, left %q; want %+v", stale, doubled, got, tt)
			}
			if !slices.Equal(all[0], before) || len(rest[0]) != len(before)-stale {
				t.Errorf("of %v, %v are left, and %v where they came from", before, rest[0], all[0])
			}
		})
	}
}

func TestSettled(t *testing.T) {
	t.Parallel()
	const now, part = 10, .6
	for name, tt := range map[string]struct {
		runs  []string
		up    []int
		since float64
		err   string
	}{
		"by two":    {runs: []string{"1@0.3..9.3", "2@0.3..9.3"}, up: []int{0, 1}, since: .3},
		"one moved": {runs: []string{"1@0.3..9.3", "1@0.3..5.3 2@6.3..9.3"}, up: []int{0, 1}, since: 6.3},
		"one moved just now": {
			runs: []string{"1@0.3..9.3", "1@0.3..7.3 2@8.3..9.3"}, up: []int{0, 1}, err: "0 agents are not polled, 1 not yet",
		},
		"to and fro":    {runs: []string{"1@0.3..9.3", "2@0.3..7.3 1@8.3 2@9.3"}, up: []int{0, 1}, err: "1 not yet"},
		"one is idle":   {runs: []string{"1@0.3..9.3", "2@0.3..8.3"}, up: []int{0, 1}, err: "1 agents are not polled"},
		"one was never": {runs: []string{"1@0.3..9.3", ""}, up: []int{0, 1}, err: "1 agents are not polled"},
		"all by one":    {runs: []string{"1@0.3..9.3", "1@0.3..9.3", "1@0.3..9.3", "1@0.3..9.3"}, up: []int{0, 1}, err: "n2 has 0 agents, and 2 would be"},
		"hardly by one": {runs: []string{"1@0.3..9.3", "1@0.3..9.3", "1@0.3..9.3", "2@0.3..9.3"}, up: []int{0, 1}, since: .3},
		"by one that is not up": {
			runs: []string{"1@0.3..9.3", "2@0.3..9.3", "3@0.3..9.3", "2@0.3..9.3", "1@0.3..9.3", "3@0.3..9.3"}, up: []int{0, 1}, err: "n3 has 2 agents, and 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenures := make([]tenure, len(tt.runs))
			for i, runs := range tt.runs {
				for _, s := range saw(t, runs) {
					tenures[i].see(s)
				}
			}
			_, since, err := settled(tenures, secondly, after(now), 3, tt.up, part)
			if tt.err == "" && (err != nil || since != after(tt.since)) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("since %v, %v; want %+v", since, err, tt)
			}
		})
	}
}

func TestCountsAndWaits(t *testing.T) {
	t.Parallel()
	h := history{saw(t, "1@0.3..9.3"), saw(t, "2@0.7..4.7"), nil}
	if got, want := h.around(stretch{0, h[0][2], h[0][3]}, secondly), "agent 0: n1 1.300 *n1 2.300 *n1 3.300 n1 4.300"; got != want {
		t.Errorf("around: %q, want %q", got, want)
	}
	if n := h.count(spell{after(3.3), after(6.3)}); n != 3+2 {
		t.Errorf("%d runs", n)
	}
	if n := h.of([]int{1}).count(spell{0, after(9)}); n != 5 {
		t.Errorf("%d runs by the second node", n)
	}
	if got := h.waits(after(4)); !slices.Equal(got, []time.Duration{after(.3), after(.7)}) {
		t.Errorf("the agents waited %v", got)
	}
	if got := h.waits(after(5)); !slices.Equal(got, []time.Duration{after(.3)}) {
		t.Errorf("the agents waited %v", got)
	}
	var all []stretch
	for i := range 100 {
		all = append(all, stretch{to: sighting{at: after(float64(i + 1))}})
	}
	if median(all) != after(51) || longestOf(all) != after(100) || median(nil) != 0 || longestOf(nil) != 0 {
		t.Errorf("median %v of %v, longest %v of %v", median(all), median(nil), longestOf(all), longestOf(nil))
	}
	if got, want := spread(lengths(all)), "min 1.00 s, median 50.00 s, p90 90.00 s, p99 99.00 s, max 100.00 s, of 100"; got != want || spread(nil) != "none" {
		t.Errorf("spread %q, want %q", got, want)
	}
}

func TestReceipts(t *testing.T) {
	t.Parallel()
	r := receipts{times: make([][]uint8, 4), noVerdict: []int{0, 0, 1, 5}}
	for agent, numbers := range [][]int{{0, 1, 2}, {2, 0, 0}, {0}, {0, 1, 2}} {
		for _, n := range numbers {
			r.take(agent, n)
		}
	}
	for range 300 { // more than fit
		r.take(3, 1)
	}
	lost, excused, again := r.compare([]int{3, 4, 4, 4})
	// The second agent lacks 1 and 3; the third 1, 2 and 3, for one of which there is a reason; the last one 3.
	if lost != 2+2 || excused != 1+1 || again != 2 {
		t.Errorf("lost %d, excused %d, again %d", lost, excused, again)
	}
}
