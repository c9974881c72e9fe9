package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
)

// configuration tells what became of a reload. A configuration that can't be used is no reason not to rely on the
// poller, which goes on with the one before; but whoever looks is told.
func (n *narrator) configuration(now time.Time, event actors.Event) {
	switch e := event.(type) {
	case actors.Reloaded:
		if e.Err == nil {
			n.board.Set(now, conditionConfig, true, "")
		}
		n.reloaded(e)
	case actors.ReloadFailed:
		lines := problems(e.Err)
		n.board.Set(now, conditionConfig, true, fmt.Sprintf("not reloaded, the configuration before stays in use: %s", some(lines)))
		n.log.Error().Strs("problems", first(lines)).Int("problems_total", len(lines)).
			Msg("configuration not reloaded: it can't be used; the one before stays in use")
	}
}

func (n *narrator) reloaded(e actors.Reloaded) {
	switch {
	case e.Config == n.config && e.Renewed > 0:
		n.log.Info().Int("tls_renewed", e.Renewed).Msg("certificates renewed: connections with them are made again")
		return
	case e.Config == n.config:
		n.log.Info().Msg("configuration looked at again: nothing of it changed")
		return
	}
	n.follow(e.Config)
	n.log.Info().Int("agents", len(e.Config.Agents)).Int("tls_renewed", e.Renewed).
		Int("added", len(e.Added)).Strs("added_agents", first(e.Added)).
		Int("changed", len(e.Changed)).Strs("changed_agents", first(e.Changed)).
		Int("removed", len(e.Removed)).Strs("removed_agents", first(e.Removed)).Msg("configuration reloaded")
}

// follow goes by a configuration from now on, and forgets agents that are not in it.
func (n *narrator) follow(cfg *config.Config) {
	if level, err := zerolog.ParseLevel(cfg.Log.Level); err == nil && cfg.Log.Level != n.config.Log.Level {
		n.log = n.log.Level(level)
	}
	n.config = cfg
	configured := make(map[string]bool, len(cfg.Agents))
	for _, a := range cfg.Agents {
		configured[a.Name] = true
	}
	n.known = configured
	maps.DeleteFunc(n.ours, func(agent string, _ bool) bool { return !configured[agent] })
	maps.DeleteFunc(n.open, func(agent string, _ bool) bool { return !configured[agent] })
	maps.DeleteFunc(n.parked, func(actor string, _ bool) bool {
		agent, ok := agentOf(actor)
		return ok && !configured[agent]
	})
}

// identities tells of certificates whose files can't be used, and when they can again. The same is told once.
func (n *narrator) identities(now time.Time, errs []error) {
	text := ""
	if err := errors.Join(errs...); err != nil {
		text = err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.broken
	if n.broken = strings.Map(withoutDigits, text); n.broken == known {
		return
	}
	if text == "" {
		n.board.Set(now, conditionTLS, true, "")
		n.log.Info().Msg("all certificates can be used again")
		return
	}
	lines := strings.Split(text, "\n")
	n.board.Set(now, conditionTLS, true, "certificates not renewed, those before stay in use: "+some(lines))
	n.log.Error().Strs("problems", first(lines)).Int("problems_total", len(lines)).
		Msg("certificates not renewed: their files can't be used; those before stay in use")
}

// withoutDigits leaves out what differs each time that the same is said: the time of day.
func withoutDigits(r rune) rune {
	if unicode.IsDigit(r) {
		return -1
	}
	return r
}

// warnings tells what is odd in a configuration, if that is not what was told last.
func (n *narrator) warnings(list []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(list, n.warned) {
		return
	}
	n.warned = list
	for _, w := range list {
		n.log.Warn().Str("warning", w).Msg("the configuration is right, but for this")
	}
}

// problem tells of what can be done without.
func (n *narrator) problem(err error, what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log.Warn().Err(err).Msg(what)
}

// problems returns what is wrong, each on its own.
func problems(err error) []string {
	if list, ok := errors.AsType[config.Errors](err); ok {
		lines := make([]string, len(list))
		for i := range list {
			lines[i] = list[i].Error()
		}
		return lines
	}
	return strings.Split(err.Error(), "\n")
}
