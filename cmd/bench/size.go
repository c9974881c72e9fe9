package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size is how much there is to poll.
type size struct{ agents, checks int }

// maxChecks keeps a slip of the finger from filling the machine.
const maxChecks = 1_000_000

func parseSize(text string) (size, error) {
	agents, checks, _ := strings.Cut(text, "x")
	n, err := strconv.Atoi(agents)
	m, err2 := strconv.Atoi(checks)
	if err != nil || err2 != nil || n < 1 || m < 1 || n > maxChecks || m > maxChecks/n {
		return size{}, fmt.Errorf("size %q: write agents x checks of each, such as 1000x5; at most %d checks in all", text, maxChecks)
	}
	return size{n, m}, nil
}

func (s size) String() string { return fmt.Sprintf("%dx%d", s.agents, s.checks) }

// all is how many checks there are.
func (s size) all() int { return s.agents * s.checks }

// The names of agents and checks, which also say their numbers. An agent's slot goes by its name.
const (
	agentPrefix = "agent-"
	checkPrefix = "check-"
)

func agentName(i int) string { return fmt.Sprintf(agentPrefix+"%05d", i) }

func checkName(i int) string { return fmt.Sprintf(checkPrefix+"%d", i) }

// number returns which of all checks one is, by its agent's name and its own; false if it is none of them.
func (s size) number(agent, check string) (int, bool) {
	i, err := strconv.Atoi(strings.TrimPrefix(agent, agentPrefix))
	j, err2 := strconv.Atoi(strings.TrimPrefix(check, checkPrefix))
	ok := err == nil && err2 == nil && i >= 0 && i < s.agents && j >= 0 && j < s.checks
	return i*s.checks + j, ok
}
