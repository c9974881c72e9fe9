//go:build chaos || reload

package daemon_test

import (
	"os"
	"testing"
	"time"
)

// fromEnvironment returns the value of a variable that says how a test is to be, or without.
func fromEnvironment[T any](t *testing.T, name string, without T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	value, err := parse(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return value
}

// awaitMidSecond waits for a moment far from the turn of a second.
func awaitMidSecond() {
	now := time.Now()
	<-time.After(time.Until(now.Truncate(time.Second).Add(1400 * time.Millisecond)))
}
