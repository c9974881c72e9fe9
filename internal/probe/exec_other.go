//go:build !unix

package probe

import (
	"os"
	"os/exec"
)

// There are no process groups here: what a command has started is its own to end.

func ownGroup(*exec.Cmd) {}

func askGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func endedBy(*os.ProcessState, bool) string { return "" }
