package machine_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// Whatever a check's verdicts are, core is told that it is unavailable exactly if the last n were so, and how many there were
// before; and what core is told of one check depends on no other.
func TestConfirmations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c machine.Confirmations
		agents := []*check.Agent{{Name: "a"}, {Name: "b"}}
		checks := make([]check.Check, 2)
		verdicts := make(map[[2]string][]bool)
		for i, name := range []string{"x", "y"} {
			checks[i] = check.Check{Name: name, Confirm: rapid.Uint8Range(0, 4).Draw(t, "confirm")}
		}
		for range rapid.IntRange(0, 60).Draw(t, "runs") {
			st := check.Status{
				Agent: rapid.SampledFrom(agents).Draw(t, "agent"), Check: &checks[rapid.IntRange(0, 1).Draw(t, "check")],
				Available: rapid.Bool().Draw(t, "available"),
			}
			if !st.Available && rapid.Bool().Draw(t, "failed") {
				st.Reason = check.NoAnswer
			}
			key := [2]string{st.Agent.Name, st.Check.Name}
			verdicts[key] = append(verdicts[key], st.Available)
			before := st
			c.Note(&st)

			down := 0 // in a row
			for i := len(verdicts[key]) - 1; i >= 0 && !verdicts[key][i]; i-- {
				down++
			}
			want := uint8(0)
			if down < int(st.Check.Confirm) {
				want = uint8(down)
			}
			if st.Confirming != want {
				t.Fatalf("%v has %v, of which %d are needed: confirming %d, want %d", key, verdicts[key], st.Check.Confirm, st.Confirming, want)
			}
			if before.Confirming = st.Confirming; st.Available != before.Available || st.Reason != before.Reason {
				t.Fatalf("%+v became %+v", before, st)
			}
		}
	})
}

// What changes while a check is unavailable makes no recovery that nobody has seen, and what is forgotten begins anew.
func TestConfirmationsThatChange(t *testing.T) {
	t.Parallel()
	var c machine.Confirmations
	want := func(what string, available bool, confirm, confirming uint8) {
		t.Helper()
		st := check.Status{Agent: &check.Agent{Name: "a"}, Check: &check.Check{Name: "x", Confirm: confirm}, Available: available}
		if c.Note(&st); st.Confirming != confirming {
			t.Errorf("%s: confirming %d, want %d", what, st.Confirming, confirming)
		}
	}
	want("the first of two", false, 2, 1)
	want("the second of three", false, 3, 2)
	want("enough", false, 2, 0)
	want("more would be needed now", false, 100, 0)
	want("well", true, 100, 0)
	want("again", false, 100, 1)
	c.Retain(func(agent, check string) bool { return agent == "a" && check == "x" })
	want("kept", false, 3, 2)
	c.Retain(func(string, string) bool { return false })
	want("forgotten", false, 2, 1)
}
