// Package observe is how the poller shows what it does: its log, its readiness and the admin
// server. All of it is safe for concurrent use.
package observe

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// NewLogger returns a logger of a level and format as the configuration has them: format is
// console, json, or auto, which is console on a terminal and json elsewhere.
func NewLogger(w io.Writer, level, format string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log level %q: %w", level, err)
	}
	if terminal := isTerminal(w); format == "console" || format == "auto" && terminal {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: timeOfDay, NoColor: !terminal}
	}
	return zerolog.New(zerolog.SyncWriter(w)).Level(l).Hook(timestamp), nil
}

const timeOfDay = "15:04:05.000"

// timestamp adds the time to the millisecond; zerolog's own goes to the second, or is a setting
// of the whole process.
var timestamp = zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format("2006-01-02T15:04:05.000Z07:00"))
})

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
