package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	// maxOutput bounds what is read of a command, maxComplaints what is read of its standard error.
	maxOutput     = 64 << 10
	maxComplaints = 4 << 10
	// maxGrace is how long a command may take to end once it was asked to.
	maxGrace = 250 * time.Millisecond
	// drainTime is how long its output is read on when it has ended: what is left stands in the pipe already.
	drainTime = 100 * time.Millisecond
	// systemPath is a command's PATH if its environment has none.
	systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// execStates are what Nagios plugins say by their exit code; any other is UNKNOWN.
var execStates = []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}

const (
	stateWarning = 1
	stateUnknown = 3
)

type execOptions struct {
	Target string `json:"target"`
}

// execMessage is told of a command that ended by itself, or had to be ended.
type execMessage struct {
	Command string `json:"command"`
	State   string `json:"state"`
	// ExitCode is -1 if a signal ended the command.
	ExitCode     int         `json:"exit_code"`
	Text         string      `json:"text"`
	LongText     string      `json:"long_text,omitempty"`
	Perfdata     []perfdatum `json:"perfdata,omitempty"`
	PerfdataRest string      `json:"perfdata_rest,omitempty"`
	// Truncated: the output went on after 64 KiB.
	Truncated    bool   `json:"truncated,omitempty"`
	ResponseTime int64  `json:"response_time"` // ns
	Error        string `json:"error,omitempty"`
}

// Exec runs a command of the checker's file by the convention of Nagios plugins. Details is the command's name, and nothing
// of it gets to the command. OK and, unless its file has it otherwise, WARNING are available.
//
// The command and all that it has started and that is in its process group ends with the context: SIGTERM a moment
// before its deadline, SIGKILL at it. Only one that the kernel won't let end, because a disk hangs, is left behind until it can.
func Exec(ctx context.Context, target Target) (Result, error) {
	var options execOptions
	if err := parse(target.Details, &options.Target, &options); err != nil {
		return Result{}, err
	}
	name := options.Target
	command, err := target.Settings.command(name)
	if err != nil {
		return Result{}, err
	}
	inner, cancel := ctx, context.CancelFunc(func() {})
	if command.Timeout > 0 {
		inner, cancel = context.WithTimeout(ctx, command.Timeout)
	}
	defer cancel()
	began := time.Now()
	ran, err := command.run(inner)
	took := time.Since(began)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Result{}, fmt.Errorf("run the command %q: %w", name, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return Result{}, fmt.Errorf("run the command %q: there was no time left for it: raise the check's timeout", name)
	case err != nil:
		return Result{}, fmt.Errorf("the command %q can't be run: %w: check its path and its directory in the checker's file, "+
			"and that the checker's user may run it", name, err)
	}
	message := readPlugin(ran.output.text, ran.complaints.text)
	message.Command, message.ExitCode, message.ResponseTime = name, ran.exitCode, took.Nanoseconds()
	message.Truncated = ran.output.more
	state := ran.exitCode
	if state < 0 || state >= len(execStates) || ran.late {
		state = stateUnknown
	}
	message.State = execStates[state]
	available := state == 0 || state == stateWarning && !command.WarningIsUnavailable
	if !available {
		message.Error = explainCommand(name, &message, ran, took)
	}
	return result(available, took, message)
}

// explainCommand says in a sentence why a command's target is unavailable.
func explainCommand(name string, m *execMessage, ran *finished, took time.Duration) string {
	said := ""
	if m.Text != "" {
		said = ": " + m.Text
	}
	switch {
	case ran.ended != "":
		return fmt.Sprintf("%s: the command %s%s", name, ran.ended, said)
	case ran.late:
		return fmt.Sprintf("%s: the command did not end within %v and was ended: raise its timeout, or the check's%s", name, took.Round(time.Millisecond), said)
	case m.ExitCode >= len(execStates):
		return fmt.Sprintf("%s: the command ended with exit code %d, which is none of a plugin's%s", name, m.ExitCode, said)
	}
	return fmt.Sprintf("%s: %s%s", name, m.State, said)
}

// readPlugin takes a plugin's output apart: a line of text, more lines of it, and perfdata after the bar of the first line
// and after that of a later one, to the end. Who has nothing to say there may have complained on standard error.
func readPlugin(output, complaints []byte) execMessage {
	clean := func(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
	first, more, _ := strings.Cut(strings.TrimSpace(clean(output)), "\n")
	text, perfdata, _ := strings.Cut(first, "|")
	long, morePerfdata, _ := strings.Cut(more, "|")
	m := execMessage{Text: strings.TrimSpace(text), LongText: strings.TrimSpace(long)}
	if m.Text == "" && m.LongText == "" {
		m.Text, m.LongText, _ = strings.Cut(strings.TrimSpace(clean(complaints)), "\n")
		m.Text, m.LongText = strings.TrimSpace(m.Text), strings.TrimSpace(m.LongText)
	}
	m.Perfdata, m.PerfdataRest = parsePerfdata(perfdata + "\n" + morePerfdata)
	return m
}

// command returns a command by its name.
func (s *Settings) command(name string) (Command, error) {
	if name == "" {
		return Command{}, errors.New("the check names no command: write the name of one in the checker's file as its details")
	}
	if s != nil {
		if c, ok := s.Commands[name]; ok {
			return c, nil
		}
	}
	return Command{}, fmt.Errorf("command %q: the checker's file has none of that name: add [commands.%s] there", name, name)
}

// finished is what came of a command.
type finished struct {
	exitCode           int
	ended              string // by what, if it did not end by itself
	late               bool
	output, complaints capture
}

// run runs the command until it ends or ctx does.
func (c *Command) run(ctx context.Context) (*finished, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := &finished{output: capture{limit: maxOutput}, complaints: capture{limit: maxComplaints}}
	cmd := exec.Command(c.Args[0], c.Args[1:]...) //nolint:gosec,noctx // the checker's file names it; Context kills only the process, not its group
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + systemPath}
	if c.Directory != "" {
		cmd.Dir = c.Directory
	}
	for _, name := range slices.Sorted(maps.Keys(c.Environment)) {
		cmd.Env = append(cmd.Env, name+"="+c.Environment[name])
	}
	ownGroup(cmd)
	// Pipes of our own: exec's would be read until everybody has closed them, the command's own children, too.
	output, err := startReading(&cmd.Stdout, &f.output)
	if err != nil {
		return nil, err
	}
	defer output.close()
	complaints, err := startReading(&cmd.Stderr, &f.complaints)
	if err != nil {
		return nil, err
	}
	defer complaints.close()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	output.letGo()
	complaints.letGo()
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // ProcessState has what it says
	}()
	f.late = !awaitExit(ctx, cmd, exited)
	output.finish()
	complaints.finish()
	select {
	case <-exited:
		f.exitCode, f.ended = cmd.ProcessState.ExitCode(), endedBy(cmd.ProcessState, f.late)
	default:
		f.exitCode, f.ended = -1, "does not end even when it is killed: does it wait for a disk or a share that hangs?"
	}
	return f, nil
}

// awaitExit waits until the command has ended, and ends it shortly before ctx's deadline, or when ctx ends. It tells
// whether the command has ended by itself. Whatever is left of its process group is killed in any case.
func awaitExit(ctx context.Context, cmd *exec.Cmd, exited <-chan struct{}) (byItself bool) {
	grace := maxGrace
	var soon <-chan time.Time
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		grace = min(maxGrace, left/10)
		timer := time.NewTimer(left - grace)
		defer timer.Stop()
		soon = timer.C
	}
	select {
	case <-exited:
		// The group's number is not given away while anything is left in it; and if nothing is, not within this moment.
		killGroup(cmd)
		return true
	case <-soon:
	case <-ctx.Done():
	}
	askGroup(cmd)
	waitFor(exited, grace)
	killGroup(cmd)
	waitFor(exited, maxGrace)
	return false
}

func waitFor(done <-chan struct{}, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// output reads what a command writes into a pipe.
type output struct {
	read, write *os.File
	done        chan struct{}
}

// startReading gives a command a pipe to write to, and begins to read it.
func startReading(to *io.Writer, into io.Writer) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	*to = w
	out := &output{read: r, write: w, done: make(chan struct{})}
	go func() {
		defer close(out.done)
		_, _ = io.Copy(into, r) // until its end, its deadline or close
	}()
	return out, nil
}

// letGo leaves the pipe's other end to the command.
func (r *output) letGo() { _ = r.write.Close() }

// finish reads what is left, and waits for nobody who keeps the pipe open.
func (r *output) finish() {
	_ = r.read.SetReadDeadline(time.Now().Add(drainTime))
	<-r.done
}

func (r *output) close() {
	_ = r.write.Close()
	_ = r.read.Close()
	<-r.done
}

// capture keeps the beginning of what is written, and takes the rest for nothing, so that the writer can go on.
type capture struct {
	text  []byte
	limit int
	more  bool
}

func (b *capture) Write(p []byte) (int, error) {
	keep := min(len(p), b.limit-len(b.text))
	b.more = b.more || keep < len(p)
	b.text = append(b.text, p[:keep]...)
	return len(p), nil
}
