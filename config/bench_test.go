package config

import (
	"errors"
	"fmt"
	"path/filepath"
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

// fiveChecks is a profile of five checks, most of them templates.
const fiveChecks = "[[profiles.web.checks]]\nname = \"http {{ .agent }}\"\ntype = \"http\"\ndetails = \"https://{{ .agent }}.{{ .labels.site }}.example/\"\n" +
	"[[profiles.web.checks]]\nname = \"ssh\"\ntype = \"port\"\ndetails = \"{{ .address }}\"\nport = 22\n" +
	"[[profiles.web.checks]]\nname = \"a\"\ntype = \"t\"\ndetails = \"{{ if eq .labels.site \\\"x\\\" }}x{{ else }}{{ .agent }}{{ end }}\"\n" +
	"[[profiles.web.checks]]\nname = \"b\"\ntype = \"t\"\ndetails = \"{{ .labels.rack | urlquery }}\"\n" +
	"[[profiles.web.checks]]\nname = \"c\"\ntype = \"t\"\ndetails = \"127.0.0.1\"\ninterval = \"1m\"\n"

// BenchmarkFiles is many agents over many files, each with labels and a profile of five checks.
func BenchmarkFiles(b *testing.B) {
	for _, agents := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			dir := b.TempDir()
			writeFile(b, filepath.Join(dir, "poller.toml"), minimal+"include = [\"agents.d/*.toml\"]\n"+fiveChecks)
			for file := range agents / 10 {
				var text strings.Builder
				for i := range 10 {
					fmt.Fprintf(&text, "[agents.agent-%05d]\naddress = \"127.0.0.1:1\"\nprofile = \"web\"\nlabels = { site = \"north\", rack = \"r %d\" }\n", file*10+i, i)
				}
				writeFile(b, filepath.Join(dir, "agents.d", fmt.Sprintf("%05d.toml", file)), text.String())
			}
			b.ReportAllocs()
			for b.Loop() {
				c, _, err := Load(Source{File: filepath.Join(dir, "poller.toml")})
				if err != nil || len(c.Agents) != agents || len(c.Agents[0].Checks) != 5 {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(agents)*float64(b.N)/b.Elapsed().Seconds(), "agents/s")
		})
	}
}

// BenchmarkTargets is many targets that a source has found, each in a group of its own, with a profile of five checks.
func BenchmarkTargets(b *testing.B) {
	const text = minimal + "discovery.file = [{ paths = [\"/a.json\"], profile = \"web\" }]\n" + fiveChecks
	for _, agents := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			targets := make([]Target, agents)
			for i := range targets {
				targets[i] = Target{Name: fmt.Sprintf("agent-%05d", i), Address: "127.0.0.1:1", Labels: map[string]string{
					"site": "north", "rack": fmt.Sprint("r ", i%10), "__meta_filepath": "/a.json",
				}}
			}
			src := Source{Targets: map[string][]Target{"file:/a.json": targets}}
			b.ReportAllocs()
			for b.Loop() {
				c, _, err := parse("/poller.toml", []byte(text), src, noAddresses)
				if err != nil || len(c.Agents) != agents || len(c.Agents[0].Checks) != 5 {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(agents)*float64(b.N)/b.Elapsed().Seconds(), "agents/s")
		})
	}
}

// BenchmarkReload is what a reload adds to loading: the difference, the agents that stay, and the hash.
func BenchmarkReload(b *testing.B) {
	for _, agents := range []int{1_000, 10_000} {
		text := string(manyAgents(agents))
		old, _ := mustParse(b, text)
		next, _ := mustParse(b, strings.ReplaceAll(text, "7\"\n", "8\"\n")) // every tenth
		run := func(name string, what func()) {
			b.Run(fmt.Sprintf("%s/agents=%d", name, agents), func(b *testing.B) {
				for b.Loop() {
					what()
				}
				b.ReportMetric(float64(agents)*float64(b.N)/b.Elapsed().Seconds(), "agents/s")
			})
		}
		run("Compare", func() {
			if d := Compare(old, next); len(d.Changed) == 0 || len(d.Changed) == agents {
				b.Fatal(d.Summary())
			}
		})
		run("Hash", func() { _ = next.Hash() })
		run("Adopt", func() { Adopt(old, next) })
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
