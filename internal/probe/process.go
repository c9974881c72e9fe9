package probe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/process"
)

// maxPIDs is how many of a process's are told.
const maxPIDs = 20

type processOptions struct {
	Target string `json:"target"`
	Exact  bool   `json:"exact"`
	Min    int    `json:"min"`
	Max    *int   `json:"max"` // nil is no limit
	User   string `json:"user"`
}

type processMessage struct {
	Active      bool   `json:"active"`
	ProcessName string `json:"process_name"`
	Status      string `json:"status"`
	Count       int    `json:"count"`
	// PIDs are at most the 20 lowest.
	PIDs []int32 `json:"pids,omitempty"`
	// CPUSeconds and MemoryBytes are what all of them took since they began, and have in memory now.
	CPUSeconds  float64 `json:"cpu_seconds"`
	MemoryBytes uint64  `json:"memory_bytes"`
	Error       string  `json:"error,omitempty"`
}

type processFailure struct {
	Error string `json:"error"`
}

func parseProcess(details string) (processOptions, error) {
	o := processOptions{Exact: true, Min: 1}
	if err := parse(details, &o.Target, &o); err != nil {
		return o, err
	}
	switch {
	case o.Target == "":
		return o, errors.New("the target is empty: write the name of a process, such as nginx")
	case strings.Contains(o.Target, "/"):
		return o, fmt.Errorf("target %q: it is a path: write the name alone, such as %s", o.Target, filepath.Base(o.Target))
	case o.Min < 0:
		return o, fmt.Errorf("min is %d: use 0 or more", o.Min)
	case o.Max != nil && *o.Max < o.Min:
		return o, fmt.Errorf("max is %d and min is %d (1 if it is not given): min must not be the greater one", *o.Max, o.Min)
	}
	return o, nil
}

// Process looks for processes with the name in Details on this machine. Available is one that runs at least min and
// at most max times.
func Process(ctx context.Context, target Target) (Result, error) {
	o, err := parseProcess(target.Details)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	found, all, err := findProcesses(ctx, o)
	took := time.Since(began)
	switch {
	case errors.Is(err, context.Canceled):
		return Result{}, fmt.Errorf("look for the process %s: %w", o.Target, err)
	case err != nil:
		return result(false, took, processFailure{fmt.Sprintf("the processes of this machine can't be listed within %v: %v",
			took.Round(time.Millisecond), err)})
	case len(found) == 0 && o.Min > 0:
		return result(false, took, processFailure{fmt.Sprintf("Process %s is not running: none of %d processes is called that%s",
			o.Target, all, o.ofUser())})
	}
	m := processMessage{ProcessName: o.Target, Active: len(found) > 0, Status: "inactive", Count: len(found)}
	if m.Active {
		m.Status = "active"
	}
	m.add(ctx, found)
	switch {
	case m.Count < o.Min:
		m.Error = fmt.Sprintf("Process %s runs %d times%s, fewer than min, %d", o.Target, m.Count, o.ofUser(), o.Min)
	case o.Max != nil && m.Count > *o.Max:
		m.Error = fmt.Sprintf("Process %s runs %d times%s, more than max, %d", o.Target, m.Count, o.ofUser(), *o.Max)
	}
	return result(m.Error == "", took, m)
}

func (o processOptions) ofUser() string {
	if o.User == "" {
		return ""
	}
	return " and is of user " + o.User
}

// add adds up what processes take. One that has just ended counts for nothing.
func (m *processMessage) add(ctx context.Context, found []*process.Process) {
	for i, p := range found {
		if i < maxPIDs {
			m.PIDs = append(m.PIDs, p.Pid)
		}
		if t, err := p.TimesWithContext(ctx); err == nil {
			m.CPUSeconds += t.User + t.System
		}
		if memory, err := p.MemoryInfoWithContext(ctx); err == nil {
			m.MemoryBytes += memory.RSS
		}
	}
}

// findProcesses returns those that the options ask for, by PID, and how many there are in all.
func findProcesses(ctx context.Context, o processOptions) (found []*process.Process, all int, err error) {
	pids, err := process.PidsWithContext(ctx)
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(pids)
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		p := &process.Process{Pid: pid}
		if o.named(ctx, p) && o.owned(ctx, p) && alive(ctx, p) {
			found = append(found, p)
		}
	}
	return found, len(pids), nil
}

// named tells whether a process has the name. The name that the kernel has of it may be another than its file's: it
// can be changed, and who may not look at a process does not learn of its file.
func (o processOptions) named(ctx context.Context, p *process.Process) bool {
	matches := func(name string) bool { return name == o.Target }
	if !o.Exact {
		matches = func(name string) bool { return strings.Contains(name, o.Target) }
	}
	if name, err := p.NameWithContext(ctx); err == nil && matches(name) {
		return true
	}
	exe, err := p.ExeWithContext(ctx)
	// What was replaced while it runs, by an update, is the same program still.
	return err == nil && exe != "" && matches(filepath.Base(strings.TrimSuffix(exe, " (deleted)")))
}

// owned tells whether a process is of the user, by name or number.
func (o processOptions) owned(ctx context.Context, p *process.Process) bool {
	if o.User == "" {
		return true
	}
	if uids, err := p.UidsWithContext(ctx); err == nil && len(uids) > 0 && strconv.FormatUint(uint64(uids[0]), 10) == o.User {
		return true
	}
	name, err := p.UsernameWithContext(ctx)
	return err == nil && name == o.User
}

// alive tells whether a process still is one: of one that ended the entry stays until its parent takes note.
func alive(ctx context.Context, p *process.Process) bool {
	status, err := p.StatusWithContext(ctx)
	return err == nil && !slices.Contains(status, process.Zombie)
}
