package main

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// playRuns plays a script: on each line a time in ms, and either an agent and the node that polls it, or what is done: begins, goes, returns
// or ends, and to which node, after which it may have stood. It returns the time of the last line, too.
func playRuns(t *testing.T, script string) (*runs, time.Time) {
	t.Helper()
	now := time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	began := now
	r := newRuns([]string{"x", "y"}, now)
	kinds := map[string]kind{"begins": begins, "goes": goes, "returns": returns, "ends": ends}
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		ms, err := strconv.Atoi(words[0])
		if err != nil || len(words) < 2 {
			t.Fatalf("%q is no line of a script: %v", line, err)
		}
		now = began.Add(time.Duration(ms) * time.Millisecond)
		if k, ok := kinds[words[1]]; ok {
			d := deed{kind: k, what: strings.Join(words[1:], " "), stood: len(words) > 3}
			if len(words) > 2 {
				d.node = words[2]
			}
			r.did(d, now)
			continue
		}
		r.note(words[1], words[2], now)
	}
	return r, now
}

// even is a begin after which a polls x, and b polls y.
const even = `
	0    begins
	100  x a
	100  y b
	1100 x a
	1100 y b
`

func TestRuns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script  string
		news    string // of the last deed, as soon as that is clear; empty if it is not
		over    string // of the last deed, when its time is over
		row     string // of the last deed in the summary, after its name
		verdict string // part of the error; empty for none
		alone   string // so
	}{
		"begin": {
			script: even,
			news:   "begins: all 2 agents were polled after 0.1 s (longest gap 1.0 s)",
			row:    "0 agents 1.0 s 0",
		},
		"one of two never polled": {
			script: "0 begins\n 500 x a\n 1500 x a",
			over:   "begins: 1 of 2 agents were not polled (longest gap 1.0 s)",
			row:    "0 agents 1.0 s 0",
			alone:  "exactly one node: y by none",
		},
		"taken over": {
			script: even + "1600 goes a\n 2100 y b\n 3000 x b\n 3100 x b\n 3100 y b",
			news:   "goes a: its 1 agent was polled by others after 1.4 s (longest gap 1.9 s)",
			row:    "1 agent 1.9 s 0",
		},
		"not taken over": {
			script: even + "1600 goes a\n 2100 y b\n 3100 y b",
			over:   "goes a: 1 of its 1 agent was not polled by others (longest gap 1.0 s)",
			row:    "0 agents 1.0 s 0",
			alone:  "x by none",
		},
		"its own late run is no takeover": {
			script: even + "1600 goes a\n 1601 x a\n 2100 y b",
			over:   "goes a: 1 of its 1 agent was not polled by others (longest gap 1.0 s)",
			row:    "0 agents 1.0 s 0",
		},
		"who had nothing goes": {
			script: even + "1600 goes c\n 2100 x a\n 2100 y b",
			news:   "goes c: it polled no agent (longest gap 1.0 s)",
			row:    "0 agents 1.0 s 0",
		},
		"returns": {
			script: even + "1600 returns c\n 2100 x c\n 2100 y b\n 3100 x c\n 3100 y c\n 4100 x c\n 4100 y c",
			over:   "returns c: it took 2 agents, the first after 0.5 s, the last after 1.5 s (longest gap 1.0 s)",
			row:    "2 agents 1.0 s 0",
		},
		"returns and takes nothing, while another moves": {
			script: even + "1600 returns c\n 2100 x b\n 2100 y b",
			over:   "returns c: it took no agent (longest gap 1.0 s)",
			row:    "1 agent 1.0 s 0",
		},
		"doubled": {
			script:  even + "1979 x b\n 1980 y a\n 2000 goes c\n 2100 x a",
			news:    "goes c: it polled no agent (longest gap 0.1 s)",
			row:     "1 agent 0.1 s 0",
			verdict: "1 runs doubled: x was polled by a and b within 879ms, 2.0 s after the begin (begins)",
			alone:   "x by a, then b, then a",
		},
		"closely, but in another cycle": {
			script: "0 begins\n 900 x a\n 900 y a\n 1000 x b\n 1000 y b\n 1500 ends",
			row:    "0 agents 0.0 s 0",
		},
		"one node soon again": {
			script: even + "1101 x a\n 1102 y b\n 2600 ends",
			row:    "0 agents 0.0 s 0",
		},
		"by one that stood still": {
			script: even + "1600 returns b stood\n 1601 x b\n 2000 x a\n 2001 y b",
			over:   "returns b stood: it took 1 agent, the first after 0.0 s, the last after 0.0 s (longest gap 0.9 s)",
			row:    "1 agent 0.9 s 0, and 1 by the one that stood still",
			alone:  "x by a, then b, then a",
		},
		"by one that did not stand still": {
			script:  even + "1600 returns b\n 1601 x a\n 1700 x b\n 1800 x b\n 2101 y b",
			over:    "returns b: it took 1 agent, the first after 0.1 s, the last after 0.1 s (longest gap 1.0 s)",
			row:     "1 agent 1.0 s 2",
			verdict: "2 runs doubled: x was polled by a and b within 600ms, 1.7 s after the begin (returns b); x was",
		},
		"takes an agent twice": {
			script: even + "1600 returns c\n 2100 x c\n 2100 y b\n 3100 x a\n 3100 y b\n 4100 x c\n 4100 y b",
			over:   "returns c: it took 1 agent, the first after 0.5 s, the last after 0.5 s (longest gap 1.0 s)",
			row:    "1 agent 1.0 s 0",
		},
		"by others while one stands still": {
			script:  even + "1500 goes c stood\n 1501 x b\n 2001 y b",
			news:    "goes c stood: it polled no agent (longest gap 0.9 s)",
			row:     "1 agent 0.9 s 1",
			verdict: "1 runs doubled: x was polled by a and b within 401ms, 1.5 s after the begin (goes c stood)",
		},
		"strangers' agents": {
			script: even + "1600 z c",
			news:   "begins: all 2 agents were polled after 0.1 s (longest gap 1.0 s)",
			row:    "0 agents 1.0 s 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, now := playRuns(t, tt.script)
			news := r.news(false)
			if news != tt.news {
				t.Errorf("what followed is clear as %q, want %q", news, tt.news)
			}
			if over := r.news(true); over != tt.over {
				t.Errorf("what followed when it was over is %q, want %q", over, tt.over)
			}
			if again := r.news(true); again != "" {
				t.Errorf("what followed is told again: %q", again)
			}
			rows := strings.Split(strings.TrimSpace(r.summary()), "\n")
			row := strings.Join(strings.Fields(rows[len(rows)-1]), " ")
			if !strings.HasSuffix(row, " "+tt.row) {
				t.Errorf("the summary's last row is %q, want %q at its end", row, tt.row)
			}
			for what, pair := range map[string]struct {
				err  error
				want string
			}{"verdict": {r.verdict(), tt.verdict}, "alone": {r.alone(now), tt.alone}} {
				if (pair.err == nil) != (pair.want == "") || pair.err != nil && !strings.Contains(pair.err.Error(), pair.want) {
					t.Errorf("%s: %v, want %q", what, pair.err, pair.want)
				}
			}
		})
	}
}

// What a node polled counts as now for a while, and the longest gap is that of the agent that waits longest.
func TestRunsNow(t *testing.T) {
	t.Parallel()
	r, last := playRuns(t, even+"1700 x b")
	for after, want := range map[time.Duration]struct {
		a, b int
		gap  time.Duration
	}{
		0:                       {1, 2, 600 * time.Millisecond},
		1000 * time.Millisecond: {0, 1, 1600 * time.Millisecond},
		1500 * time.Millisecond: {0, 1, 2100 * time.Millisecond},
		1501 * time.Millisecond: {0, 0, 2101 * time.Millisecond},
	} {
		shares, gap := r.now(last.Add(after))
		if shares["a"] != want.a || shares["b"] != want.b || gap != want.gap {
			t.Errorf("after %v: shares %v, gap %v, want %+v", after, shares, gap, want)
		}
	}
}

// However much is wrong, what is told of it can be read.
func TestRunsTellSome(t *testing.T) {
	t.Parallel()
	script := even
	for i := range 50 {
		script += strconv.Itoa(1200+10*i) + " x " + []string{"a", "b"}[i%2] + "\n"
	}
	r, _ := playRuns(t, script)
	if err := r.verdict(); err == nil || !strings.HasPrefix(err.Error(), "49 runs doubled: ") || strings.Count(err.Error(), ";") != toldWrong-1 {
		t.Errorf("the verdict is %v, want 49 runs doubled and %d of them in full", err, toldWrong)
	}
	if got, want := some(strings.Split("abcdefghijkl", "")), "a; b; c; d; e; f; g; h; and 4 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
