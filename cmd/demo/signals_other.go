//go:build !unix

package main

import (
	"errors"
	"os"
	"os/exec"
)

var errSignals = errors.New("the cluster's nodes are told by signals to end and to stand still, which this system does not have: run this on Linux or macOS")

var sigFreeze, sigGoOn os.Signal

func apart(*exec.Cmd) {}
