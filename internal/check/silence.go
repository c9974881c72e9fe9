package check

import "time"

// Silence is a time in which people expect a check to be out of order: core is told so with each status, and need not call
// anybody.
type Silence struct {
	// From is when it begins; To, which is later, is when it is over.
	From, To time.Time
	// Reason is for people, and never empty.
	Reason string
}

// Silences are all that there are, by the agent's name and the check's: with an empty name for the check they are for all
// checks of the agent, and with two for all.
type Silences map[string]map[string][]Silence

// Silenced are reasons, by names as in Silences.
type Silenced map[string]map[string]string

// InForce returns the reasons of those that are in force at a time on the wall clock: of several for the same the first.
// Nil if there are none.
func (s Silences) InForce(at time.Time) Silenced {
	var reasons Silenced
	for agent, checks := range s {
		for check, list := range checks {
			reason := inForce(list, at)
			if reason == "" {
				continue
			}
			if reasons == nil {
				reasons = make(Silenced)
			}
			if reasons[agent] == nil {
				reasons[agent] = make(map[string]string)
			}
			reasons[agent][check] = reason
		}
	}
	return reasons
}

func inForce(list []Silence, at time.Time) string {
	for _, s := range list {
		if !at.Before(s.From) && at.Before(s.To) {
			return s.Reason
		}
	}
	return ""
}

// Of returns the reason for a check: its own before its agent's, and that before the one for all. Empty if it is not silenced.
func (s Silenced) Of(agent, check string) string {
	its := s[agent]
	if reason := its[check]; reason != "" {
		return reason
	}
	if reason := its[""]; reason != "" {
		return reason
	}
	return s[""][""]
}
