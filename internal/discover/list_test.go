package discover

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// start is when all tests begin: at a full hour, so that the looks at files are on it.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func since(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return "+" + at.Sub(start).String()
}

// durationArg returns the argument key; 0 if there is none.
func durationArg(t *testing.T, d *datadriven.TestData, key string) time.Duration {
	t.Helper()
	var s string
	if !d.MaybeScanArgs(t, key, &s) {
		return 0
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return v
}

// TestListScripts drives a list. It knows these events, each with at=D from the beginning:
//
//	see [unsettled] [gone]   the input are the addresses that the document lists; a..e for all between
//	fail                     the input is why it can't be read
//
// Lists are held for 30 s. The text below says what changed, and what state the list is in then.
func TestListScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/list", func(t *testing.T, path string) {
		t.Parallel()
		l := new(list)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			now := start.Add(durationArg(t, d, "at"))
			sight := sighting{settled: !d.HasArg("unsettled"), gone: d.HasArg("gone"), targets: targets(d.Input)}
			switch d.Cmd {
			case "see":
			case "fail":
				sight = sighting{err: errors.New(d.Input)}
			default:
				d.Fatalf(t, "unknown event %q", d.Cmd)
			}
			var out strings.Builder
			if l.see(sight, holdFor, now) {
				out.WriteString("changed: ")
			}
			fmt.Fprintln(&out, names(l.targets))
			if l.err != nil {
				fmt.Fprintf(&out, "fails since %s: %v\n", since(l.since), l.err)
			}
			if !l.held.since.IsZero() {
				fmt.Fprintf(&out, "held since %s, %d lost\n", since(l.held.since), l.held.lost)
			}
			if next := l.next(now); !next.IsZero() {
				fmt.Fprintf(&out, "look again at %s\n", since(next))
			}
			return out.String()
		})
	})
}

// targets makes targets of words; "a..d" is all between.
func targets(words string) []Target {
	var all []Target
	for word := range strings.FieldsSeq(words) {
		first, last, ok := strings.Cut(word, "..")
		if !ok {
			all = append(all, Target{Name: word, Address: word})
			continue
		}
		for c := first[0]; c <= last[0]; c++ {
			all = append(all, Target{Name: string(c), Address: string(c)})
		}
	}
	return all
}

func names(targets []Target) string {
	if len(targets) == 0 {
		return "nothing"
	}
	words := make([]string, len(targets))
	for i, t := range targets {
		words[i] = t.Name
	}
	return strings.Join(words, " ")
}

// TestListKeepsItsPromises looks at documents that do anything, as they please.
func TestListKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type look struct {
			at     time.Time
			listed []Target
		}
		l, now := new(list), start
		var held []look // since the list was last what is listed
		for range rapid.IntRange(1, 40).Draw(t, "looks") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, 10 * time.Second, 29 * time.Second, holdFor, time.Hour}).Draw(t, "later"))
			before := l.targets
			if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
				if l.see(sighting{err: errors.New("garbage")}, holdFor, now) || !equalTargets(before, l.targets) || l.err == nil {
					t.Fatalf("after an error: %v, and before: %v", l.targets, before)
				}
				continue
			}
			sight := sighting{settled: rapid.Bool().Draw(t, "settled"), targets: drawTargets(t)}
			changed := l.see(sight, holdFor, now)
			if changed == equalTargets(before, l.targets) {
				t.Fatalf("changed is %v, from %v to %v", changed, before, l.targets)
			}
			if l.err != nil || !l.since.IsZero() {
				t.Fatalf("there is still an error: %v", l.err)
			}
			took := equalTargets(l.targets, sight.targets)
			lost := lostOf(before, sight.targets)
			short := 2*lost > len(before)
			same := func(k look) bool { return equalTargets(k.listed, sight.targets) && now.Sub(k.at) >= holdFor }
			switch {
			case !took && changed:
				t.Fatalf("it is neither what it was, %v, nor what is listed, %v: %v", before, sight.targets, l.targets)
			case took && short && !slices.ContainsFunc(held, func(k look) bool { return now.Sub(k.at) >= holdFor }):
				t.Fatalf("%v became %v, and nobody saw that it was short half a minute before", before, l.targets)
			case !took && !short && sight.settled:
				t.Fatalf("%v is held, though it is settled and lost only %d of %v", sight.targets, lost, before)
			case !took && slices.ContainsFunc(held, same) && onlySame(held, func(k look) bool { return equalTargets(k.listed, sight.targets) }):
				t.Fatalf("%v is held, though it was there half a minute ago and nothing else since", sight.targets)
			}
			if took {
				held = nil
			} else {
				held = append(held, look{at: now, listed: sight.targets})
			}
			if next := l.next(now); !took && (next.IsZero() || next.Sub(now) > holdFor) {
				t.Fatalf("held, and to be looked at again only at %v", next)
			}
		}
	})
}

// onlySame tells whether all looks were the same.
func onlySame[T any](all []T, same func(T) bool) bool {
	return !slices.ContainsFunc(all, func(x T) bool { return !same(x) })
}

func drawTargets(t *rapid.T) []Target {
	return targets(strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(strings.Split("abcdefghij", "")), 0, 10, rapid.ID).Draw(t, "listed"), " "))
}

func lostOf(before, after []Target) (lost int) {
	for _, t := range before {
		if !slices.ContainsFunc(after, t.equal) {
			lost++
		}
	}
	return lost
}
