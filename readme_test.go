package poller_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The README's first command runs the main job, its second the tests. CI runs both as they stand
// there, so neither can go stale.
func TestReadmeCommandsAreWhatCIRuns(t *testing.T) {
	t.Parallel()
	readme, ci := lines(t, "README.md"), lines(t, ".ci/run")
	var commands []string
	for _, line := range readme {
		if command, indented := strings.CutPrefix(line, "    go "); indented {
			commands = append(commands, "go "+command)
		}
	}
	if len(commands) < 2 || !strings.HasPrefix(commands[0], "go run ") || !strings.HasPrefix(commands[1], "go test ") {
		t.Fatalf("the README's first commands are %q, want one that runs the demo and one that runs the tests", commands)
	}
	for _, command := range commands[:2] {
		if !slices.Contains(ci, command) {
			t.Errorf(".ci/run does not run %q", command)
		}
	}
}

// The check that docs/write-a-checker.md begins with is one that the SDK's examples run.
func TestDocumentedCheckIsTheExample(t *testing.T) {
	t.Parallel()
	page, example := strings.Join(lines(t, "docs/write-a-checker.md"), "\n"), strings.Join(lines(t, "sdk/example_test.go"), "\n")
	_, page, _ = strings.Cut(page, "```go\n")
	check, _, ends := strings.Cut(page, "func main() {")
	if !ends || !strings.Contains(check, "fileCheck") {
		t.Fatalf("the page begins with %q, want the check and then its main", check)
	}
	if !strings.Contains(example, check) {
		t.Errorf("sdk/example_test.go does not have this:\n%s", check)
	}
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}
