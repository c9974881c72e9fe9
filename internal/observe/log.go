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

const (
	timeOfDay = "15:04:05.000"
	// waitingLines is how many lines may wait for a slow reader; then the oldest are left out.
	waitingLines = 4096
	flushTimeout = time.Second
)

// NewLogger returns a logger of a level and format as the configuration has them: format is
// console, json, or auto, which is console on a terminal and json elsewhere. Logging never waits
// for w: a terminal that is stopped or a pipe that nobody reads must not stop the poller. Flush
// writes what waits, if w takes it within a second; nothing is logged after it.
func NewLogger(w io.Writer, level, format string) (log zerolog.Logger, flush func(), err error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), nil, fmt.Errorf("log level %q: %w", level, err)
	}
	if terminal := isTerminal(w); format == "console" || format == "auto" && terminal {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: timeOfDay, NoColor: !terminal, FormatFieldValue: fieldValue}
	}
	direct := zerolog.New(w).Hook(timestamp)
	waiting := newLines(w, waitingLines, func(missed int) {
		direct.Warn().Int("lines", missed).Msg("the log's reader is too slow; lines were left out")
	})
	flush = func() {
		waiting.close()
		select {
		case <-waiting.ended:
		case <-time.After(flushTimeout):
		}
	}
	return zerolog.New(waiting).Level(l).Hook(timestamp), flush, nil
}

// timestamp adds the time to the millisecond; zerolog's own goes to the second, or is a setting
// of the whole process.
var timestamp = zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format("2006-01-02T15:04:05.000Z07:00"))
})

// fieldValue formats a value for the console. The writer quotes text by itself, but not in lists.
func fieldValue(value any) string { return Visible(fmt.Sprintf("%s", value)) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
