package discover

import (
	"os"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/proptest"
)

func TestMain(m *testing.M) { os.Exit(proptest.Main(m)) }

func write(t *testing.T, path, content string, changed time.Time) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
	must(t, os.Chtimes(path, changed, changed))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
