package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestDemo runs the demo until one cycle has closed; CI runs all of it, as the README says.
func TestDemo(t *testing.T) {
	defer goleak.VerifyNone(t)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := demo(ctx, out); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" 0 lost, 0 doubled", "broken page  unavailable", "page         available", "too short"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the output lacks %q:\n%s", want, text)
		}
	}
}

func TestNegativeLength(t *testing.T) {
	cmd := command()
	cmd.SetArgs([]string{"--for", "-1s"})
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "above 0") {
		t.Errorf("--for -1s: %v", err)
	}
}
