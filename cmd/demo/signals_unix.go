//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// errSignals is why processes can't be signalled here.
var errSignals error

// Signals by which a process stands still, and goes on.
var sigFreeze, sigGoOn os.Signal = syscall.SIGSTOP, syscall.SIGCONT

// apart keeps a terminal's Ctrl-C from a process: it is ours to end. If we die, the kernel has one go on that stands still.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
