// Package poller_test holds what is true of the project as a whole.
package poller_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/serviceradar/poller/"

// mayImport says which of our packages each of ours may import; ARCHITECTURE.md says why. A
// package that is not here is a mistake, here or there.
var mayImport = map[string][]string{
	"actors":               {"config", "internal/check", "internal/machine", "internal/wire", "proto/cluster", "proto/monitoring"},
	"cmd/bench":            {"config", "internal/sim", "proto/monitoring"},
	"cmd/checker":          {"internal/check", "internal/checkerfile", "internal/conformance", "internal/observe", "internal/probe", "internal/tlsid", "sdk"},
	"cmd/demo":             {"*"},
	"cmd/poller":           {"config", "internal/convert", "internal/daemon", "internal/observe", "internal/spool", "internal/wire"},
	"config":               {"internal/assertion", "internal/check"},
	"internal/assertion":   {"internal/check"},
	"internal/check":       {},
	"internal/checkerfile": {"internal/check", "internal/probe"},
	"internal/cluster":     {"internal/check", "internal/machine", "internal/tlsid", "proto/cluster"},
	"internal/conformance": {"internal/check", "internal/tlsid", "internal/transport", "internal/wire", "proto/monitoring"},
	"internal/convert":     {"config"},
	"internal/daemon":      {"actors", "config", "internal/check", "internal/cluster", "internal/machine", "internal/observe", "internal/spool", "internal/transport", "internal/wire", "internal/tlsid", "internal/watch", "internal/discover"},
	"internal/discover":    {"internal/check"},
	"internal/machine":     {"internal/check"},
	"internal/observe":     {"internal/check"},
	"internal/probe":       {},
	"internal/sim":         {"actors", "config", "internal/check", "internal/daemon", "internal/machine", "internal/transport", "internal/wire", "internal/tlsid", "proto/monitoring", "sdk"},
	"internal/spool":       {},
	"internal/tlsid":       {"internal/check"},
	"internal/watch":       {},
	"internal/transport":   {"internal/check", "internal/tlsid", "internal/wire", "proto/monitoring"},
	"internal/wire":        {"internal/check", "proto/monitoring"},
	"proto/cluster":        {},
	"proto/monitoring":     {},
	"sdk":                  {"internal/tlsid", "proto/monitoring"},
	// Support for tests of other packages.
	"internal/proptest":        {},
	"internal/tlsid/tlsidtest": {"internal/check"},
}

// onlyIn says which outside packages only one of ours may import.
var onlyIn = map[string]string{
	"github.com/asynkron/protoactor-go": "actors",
	"github.com/knadh/koanf":            "config",
	"github.com/expr-lang/expr":         "internal/assertion",
	"github.com/hashicorp/memberlist":   "internal/cluster",
	"github.com/quic-go/quic-go":        "internal/cluster",
}

// neverIn says what a program must not link.
var neverIn = map[string][]string{
	"cmd/poller":  {"internal/probe", "internal/sim", "sdk"}, // every check crosses gRPC
	"cmd/checker": {"actors", "internal/sim", "config"},
}

func TestLayering(t *testing.T) {
	t.Parallel()
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		if pkg == strings.TrimSuffix(module, "/") {
			continue // this test
		}
		allowed, known := mayImport[pkg]
		if !known {
			t.Errorf("%s is not in the table of rooms: add it here and in ARCHITECTURE.md", pkg)
			continue
		}
		for _, imported := range fields[1:] {
			if ours, ok := strings.CutPrefix(imported, module); ok &&
				!slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s, which it may not", pkg, ours)
			}
			for outside, only := range onlyIn {
				if strings.HasPrefix(imported, outside) && pkg != only {
					t.Errorf("%s imports %s, which only %s may", pkg, imported, only)
				}
			}
		}
	}
}

func TestProgramsLinkNothingTheyMustNot(t *testing.T) {
	t.Parallel()
	for program, forbidden := range neverIn {
		deps := goList(t, "-deps", "./"+program)
		if !slices.Contains(deps, module+program) {
			t.Fatalf("go list -deps of %s does not list itself", program)
		}
		for _, pkg := range forbidden {
			if slices.Contains(deps, module+pkg) {
				t.Errorf("%s links %s", program, pkg)
			}
		}
	}
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
