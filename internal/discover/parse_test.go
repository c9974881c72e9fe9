package discover

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite what is expected of the fixtures")

// fixtures returns the documents in a directory of testdata.
func fixtures(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + dir + "/*")
	must(t, err)
	files = slices.DeleteFunc(files, func(file string) bool { _, ok := formatOf(file); return !ok })
	if len(files) < 10 {
		t.Fatalf("found %d documents in %s; were they moved?", len(files), dir)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	return content
}

// TestParse holds what documents come to, or the message that people read, against a file beside each.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, file := range append(fixtures(t, "good"), fixtures(t, "bad")...) {
		t.Run(strings.TrimPrefix(file, "testdata/"), func(t *testing.T) {
			t.Parallel()
			format, _ := formatOf(file)
			list, err := Parse(read(t, file), format, map[string]string{"__meta_filepath": "FILE"})
			if bad := strings.Contains(file, "bad"); bad != (err != nil) {
				t.Errorf("the error is %v", err)
			}
			if err != nil && list != nil {
				t.Errorf("targets came with an error: %v", list)
			}
			got := fmt.Sprintln(err)
			if err == nil {
				got = ""
				for _, target := range list {
					got += fmt.Sprintf("%s at %s %q\n", target.Name, target.Address, target.Labels)
				}
			}
			if *update {
				must(t, os.WriteFile(file+".out", []byte(got), 0o600))
			}
			if diff := cmp.Diff(string(read(t, file+".out")), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestParseRefusesBombs parses what is small, and would be large if it were followed.
func TestParseRefusesBombs(t *testing.T) {
	t.Parallel()
	laughs := "- labels: &a0 {x: lol}\n"
	for i := range 9 {
		laughs += fmt.Sprintf("- labels: &a%d {<<: [%s]}\n", i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	for name, document := range map[string]string{
		"groups":  "- &g\n  targets: [" + strings.Repeat("a:1, ", 500) + "]\n" + strings.Repeat("- *g\n", 9000),
		"targets": "- targets: &t [" + strings.Repeat("a:1, ", 500) + "]\n" + strings.Repeat("- targets: *t\n", 9000),
		"merges":  laughs,
		"lists":   strings.Repeat("[", 100_000),
		"nested":  strings.Repeat("- ", 100_000),
		"maps":    strings.Repeat("{a: ", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if list, err := Parse([]byte(document), YAML, nil); err == nil {
				t.Errorf("parsed, to %d targets", len(list))
			} else if len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestParseRefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	document := bytes.Repeat([]byte(" "), maxDocument+1)
	for _, format := range []Format{JSON, YAML} {
		if _, err := Parse(document, format, nil); err == nil || !strings.Contains(err.Error(), "MiB") {
			t.Errorf("format %d: %v", format, err)
		}
	}
}

// TestFormatsAgree writes groups as JSON, which is YAML, too, and reads both.
func TestFormatsAgree(t *testing.T) {
	t.Parallel()
	type written struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels,omitempty"`
	}
	address := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%s:%d", rapid.StringMatching(`[a-z][a-z0-9-]{0,5}x(\.[a-z]+)?`).Draw(t, "host"), rapid.IntRange(1, 65535).Draw(t, "port"))
	})
	group := rapid.Custom(func(t *rapid.T) written {
		return written{
			Targets: rapid.SliceOf(address).Draw(t, "targets"),
			Labels:  rapid.MapOf(rapid.StringMatching(`[a-z_]+|agent`), rapid.StringMatching(`[ -~]*|ü+`)).Draw(t, "labels"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		groups := rapid.SliceOf(group).Draw(t, "groups")
		document, err := json.Marshal(groups)
		if err != nil {
			t.Fatal(err)
		}
		fromJSON, err := Parse(document, JSON, nil)
		if err != nil {
			if strings.Contains(err.Error(), "want a name") {
				t.Skip("a name that none can be")
			}
			t.Fatalf("%v in %s", err, document)
		}
		fromYAML, err := Parse(document, YAML, nil)
		if err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if diff := cmp.Diff(fromJSON, fromYAML, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-JSON +YAML): %s", diff)
		}
		var want []Target
		for _, g := range groups {
			for _, a := range g.Targets {
				name := a
				if len(g.Targets) == 1 && g.Labels[AgentLabel] != "" {
					name = g.Labels[AgentLabel]
				}
				want = append(want, Target{Name: name, Address: a, Labels: g.Labels})
			}
		}
		if diff := cmp.Diff(want, fromJSON, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got): %s", diff)
		}
	})
}

// FuzzParseJSON parses anything: what is taken is what Prometheus would take it for.
func FuzzParseJSON(f *testing.F) {
	fuzz(f, JSON, func(t *testing.T, document []byte, got []Target) {
		t.Helper()
		var groups []*struct {
			Targets []string          `json:"targets"`
			Labels  map[string]string `json:"labels"`
		}
		d := json.NewDecoder(bytes.NewReader(document))
		d.DisallowUnknownFields()
		if err := d.Decode(&groups); err != nil {
			t.Fatalf("Prometheus would refuse it: %v", err)
		}
		i := 0
		for _, g := range groups {
			for _, address := range g.Targets {
				if i >= len(got) || got[i].Address != address {
					t.Fatalf("%s is missing in %v", address, got)
				}
				for name, value := range g.Labels {
					if got[i].Labels[name] != value {
						t.Errorf("label %q of %s is %q, want %q", name, address, got[i].Labels[name], value)
					}
				}
				i++
			}
		}
		if i != len(got) {
			t.Errorf("%d targets, want %d", len(got), i)
		}
	})
}

func FuzzParseYAML(f *testing.F) {
	fuzz(f, YAML, func(*testing.T, []byte, []Target) {})
}

// fuzz parses anything: it either says what is wrong, at a place within the document, or yields targets that can be
// connected to.
func fuzz(f *testing.F, format Format, taken func(*testing.T, []byte, []Target)) {
	for _, dir := range []string{"good", "bad"} {
		for _, file := range fixtures(f, dir) {
			if of, _ := formatOf(file); of == format {
				f.Add(read(f, file))
			}
		}
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		given := bytes.Clone(document)
		list, err := Parse(document, format, nil)
		if !bytes.Equal(document, given) {
			t.Error("the document was changed")
		}
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			lines := 2 + bytes.Count(document, []byte("\n")) + bytes.Count(document, []byte("\r"))
			if !ok || e.Msg == "" || e.Line < 0 || e.Line > lines || (e.Line > 0) != (e.Column > 0) || list != nil {
				t.Errorf("targets %v, error %#v", list, err)
			}
			return
		}
		for _, target := range list {
			if wantAddress(target.Address) != "" || target.Name == "" {
				t.Errorf("target %+v", target)
			}
		}
		if again, err := Parse(document, format, nil); err != nil || !equalTargets(list, again) {
			t.Errorf("the second time it is parsed otherwise: %v", err)
		}
		taken(t, document, list)
	})
}
