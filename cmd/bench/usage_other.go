//go:build !linux

package main

import (
	"errors"
	"time"
)

type usage struct {
	cpu         time.Duration
	rss, peak   float64
	descriptors int
}

var errLinux = errors.New("what a process uses is read from /proc: run this on Linux")

func usageOf(int) (usage, error) { return usage{}, errLinux }

func inMemoryOnly(string) bool { return false }

func enoughDescriptors(int) error { return errLinux }
