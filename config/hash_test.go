package config

import (
	"strings"
	"testing"

	"github.com/serviceradar/poller/internal/check"
)

// TestHash: what says the same has the same hash, and whatever differs another.
func TestHash(t *testing.T) {
	t.Parallel()
	const agents = "[agents.a]\naddress = \"127.0.0.1:1\"\nchecks = [{ name = \"web\", type = \"http\", details = \"https://user:secret@web.example/\" }]\n" +
		"[agents.b]\naddress = \"127.0.0.1:1\"\n"
	c, _ := mustParse(t, minimal+agents)
	same, _ := mustParse(t, "# The same.\n"+minimal+"partition = \"default\"\n"+agents)
	if c.Hash() != same.Hash() {
		t.Error("a comment, and a default that is written, make another hash")
	}
	for what, text := range map[string]string{
		"another id":       strings.Replace(minimal+agents, "edge-1", "edge-2", 1),
		"a default":        minimal + "metrics.per_check = true\n" + agents,
		"another password": minimal + strings.Replace(agents, "secret", "geheim", 1),
		"one agent less":   minimal + agents[:strings.Index(agents, "[agents.b]")],
	} {
		if other, _ := mustParse(t, text); other.Hash() == c.Hash() {
			t.Errorf("%s makes the same hash", what)
		}
	}
	c.Agents = []*check.Agent{}
	if c.Hash() == same.Hash() {
		t.Error("without agents the hash is the same")
	}
}
