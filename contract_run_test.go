//go:build contract

package poller_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestContract runs the tests of each point and prints the table of what they came to.
func TestContract(t *testing.T) {
	byPackage := make(map[string][]string)
	for _, point := range contract {
		for _, name := range point.tests {
			pkg, test, _ := strings.Cut(name, ".")
			byPackage[pkg] = append(byPackage[pkg], test)
		}
	}
	outcomes := make(map[string]string)
	for pkg, tests := range byPackage {
		for test, outcome := range runTests(t, pkg, tests) {
			outcomes[pkg+"."+test] = outcome
		}
	}
	var table strings.Builder
	for _, point := range contract {
		fmt.Fprintf(&table, "\n%2s  %s\n", point.point, point.says)
		for _, name := range point.tests {
			outcome := outcomes[name]
			if outcome != "pass" {
				t.Errorf("point %s: %s: %s", point.point, name, orNone(outcome))
			}
			fmt.Fprintf(&table, "      %-4s %s\n", orNone(outcome), name)
		}
	}
	t.Log(table.String())
}

func orNone(outcome string) string {
	if outcome == "" {
		return "there is no such test"
	}
	return outcome
}

// runTests returns what the tests of a package come to: pass, fail or skip.
func runTests(t *testing.T, pkg string, tests []string) map[string]string {
	t.Helper()
	//nolint:gosec // what is run is in the table above.
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-run", "^("+strings.Join(tests, "|")+")$", "./"+pkg)
	out, err := cmd.Output()
	outcomes := make(map[string]string)
	for line := range bytes.Lines(out) {
		var event struct{ Action, Test, Output string }
		if json.Unmarshal(line, &event) != nil {
			continue
		}
		switch event.Action {
		case "pass", "fail", "skip":
			outcomes[event.Test] = event.Action
		case "output":
			if err != nil {
				t.Log(strings.TrimSpace(event.Output))
			}
		}
	}
	return outcomes
}
