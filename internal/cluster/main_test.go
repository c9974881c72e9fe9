package cluster

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain has more tests run at a time than there are processors, because most of the time they wait; and it gives memberlist's goroutines
// the time to end that they take after Close.
func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		_ = parallel.Value.Set("8")
	}
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
