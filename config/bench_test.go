package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// manyAgents returns a configuration of n agents with five checks each.
func manyAgents(n int) []byte {
	var b strings.Builder
	b.WriteString(minimal)
	for i := range n {
		fmt.Fprintf(&b, "[agents.agent-%05d]\naddress = \"127.0.0.1:%d\"\n", i, 1+i%maxPort)
		for j := range 5 {
			fmt.Fprintf(&b, "[[agents.agent-%05d.checks]]\nname = \"check-%d\"\ntype = \"port\"\ndetails = \"127.0.0.1\"\nport = 22\ninterval = \"1m\"\n", i, j)
		}
	}
	return []byte(b.String())
}

// BenchmarkParse shows that the cost of an agent does not grow with their number.
func BenchmarkParse(b *testing.B) {
	for _, agents := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			text := manyAgents(agents)
			b.ReportAllocs()
			for b.Loop() {
				c, _, err := parse("poller.toml", text, Source{}, noAddresses)
				if err != nil || len(c.Agents) != agents {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(agents)*float64(b.N)/b.Elapsed().Seconds(), "agents/s")
		})
	}
}

// BenchmarkParseBroken is the worst case: every line wrong, with a search for the nearest key.
func BenchmarkParseBroken(b *testing.B) {
	text := []byte(strings.ReplaceAll(string(manyAgents(10_000)), "details =", "detials ="))
	for b.Loop() {
		_, _, err := parse("poller.toml", text, Source{}, noAddresses)
		if all, ok := errors.AsType[Errors](err); !ok || len(all) != 50_000 {
			b.Fatalf("%d errors, want 50,000", len(all))
		}
	}
}
