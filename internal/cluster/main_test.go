package cluster

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain gives memberlist's goroutines the time to end that they take after Close.
func TestMain(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(10 * probeInterval); code == 0; {
		err := goleak.Find() // which itself tries for a while
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}
