//go:build unix

package probe

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// ownGroup has the command start as the leader of a process group of its own.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// askGroup asks the command and all that it has started to end.
func askGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }

// killGroup ends what is left of them.
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// endedBy says which signal ended a command, if one did that was not ours.
func endedBy(state *os.ProcessState, byUs bool) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() && !byUs {
		return fmt.Sprintf("was ended by a signal: %v", status.Signal())
	}
	return ""
}
