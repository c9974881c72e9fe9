package convert

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/config"
)

var update = flag.Bool("update", false, "rewrite what is expected beside the fixtures")

// TestFixtures holds each file against the TOML and the notes that an operator gets, or the errors.
func TestFixtures(t *testing.T) {
	t.Parallel()
	files := fixtures(t)
	if len(files) < 30 {
		t.Fatalf("found %d fixtures; were they moved?", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			text := read(t, file)
			result, err := ServiceRadar("poller.json", text)
			again, errAgain := ServiceRadar("poller.json", text)
			if !cmp.Equal(result, again) || !cmp.Equal(err, errAgain) {
				t.Error("the same text was not converted to the same")
			}
			base := strings.TrimSuffix(file, ".json")
			if err != nil {
				if list, ok := errors.AsType[config.Errors](err); !ok || len(list) == 0 || result.TOML != nil || result.Notes != nil {
					t.Errorf("%+v with the error %#v", result, err)
				}
				golden(t, base+".err", err.Error()+"\n")
				absent(t, base+".toml", base+".notes")
				return
			}
			absent(t, base+".err")
			golden(t, base+".toml", string(result.TOML))
			golden(t, base+".notes", notes(result))
			if _, _, err := config.Parse("poller.toml", result.TOML, config.Source{}); err != nil {
				t.Errorf("the poller does not take it: %v", err)
			}
		})
	}
}

func fixtures(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// notes are as the command prints them.
func notes(r Result) string {
	var b strings.Builder
	for _, n := range r.Notes {
		if n.Warning {
			b.WriteString("warning: ")
		}
		b.WriteString(n.String() + "\n")
	}
	return b.String()
}

// absent holds that there are no files of an outcome that is not the fixture's.
func absent(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is there, too; remove it if the fixture no longer comes to it", file)
		}
	}
}

// golden holds what there is against a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, file)), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
