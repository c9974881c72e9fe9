package convert

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
)

// parsed converts a fixture and returns what the poller makes of it.
func parsed(t *testing.T, name string) *config.Config {
	t.Helper()
	result, err := ServiceRadar("poller.json", read(t, "testdata/"+name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Parse("", result.TOML, config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// defaults returns the configuration that says the least, to be changed to what is wanted.
func defaults(t *testing.T, id, source, core string) *config.Config {
	t.Helper()
	c, _, err := config.Parse("", []byte(`poller_id = "`+id+`"
source_ip = "`+source+`"
core.addresses = ["`+core+`"]
`), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mutual(dir, name, server string) check.TLS {
	return check.TLS{
		Mode: check.TLSMutual, CertFile: dir + name + ".pem", KeyFile: dir + name + "-key.pem", CAFile: dir + "root.pem", ServerName: server,
	}
}

// status is a check that is asked for its status.
func status(kind, name, details string, interval time.Duration) check.Check {
	return check.Check{Name: name, Type: kind, Details: details, Confirm: 1, Interval: interval, Timeout: min(10*time.Second, interval)}
}

// results is a check that is asked for its results.
func results(method check.Method, kind, name, details string, interval, timeout time.Duration) check.Check {
	return check.Check{Name: name, Type: kind, Details: details, Method: method, Confirm: 1, Interval: interval, Timeout: timeout}
}

func onPort(c check.Check, port int32) check.Check {
	c.Port = port
	return c
}

func agentOf(name, address string, tls check.TLS, checks ...check.Check) *check.Agent {
	return &check.Agent{Name: name, Address: address, HealthService: "AgentService", MaxMessage: 4 << 20, TLS: tls, Checks: checks}
}

const cycle = 30 * time.Second

var plain = check.TLS{Mode: check.TLSNone}

func packaged(t *testing.T) *config.Config {
	const certs = "/etc/serviceradar/certs/"
	c := defaults(t, "edge-poller", "127.0.0.1", "127.0.0.1:50052")
	c.Core.TLS = mutual(certs, "poller", "127.0.0.1")
	c.Agents = []*check.Agent{agentOf("local-agent", "127.0.0.1:50051", mutual(certs, "agent", "127.0.0.1"),
		status("process", "agent", "serviceradar-agent", cycle),
		status("port", "ssh", "127.0.0.1:22", cycle),
		status("icmp", "gateway", "192.0.2.1", cycle),
		status("grpc", "system", "127.0.0.1:50083", cycle),
		results(check.StreamResults, "sweep", "network", "", 18*time.Hour, cycle),
		results(check.StreamResults, "grpc", "sync", "127.0.0.1:50058", 18*time.Hour+30*time.Minute, cycle))}
	return c
}

func docker(t *testing.T) *config.Config {
	c := defaults(t, "docker-1", "poller", "core:50052")
	c.Partition, c.Poll.Interval = "docker", time.Minute
	c.Core.TLS = mutual("/certs/", "poller", "core.example")
	c.Agents = []*check.Agent{agentOf("compose", "agent:50051", mutual("/certs/", "poller", "agent.example"),
		status("port", "nats", "nats:4222", time.Minute),
		results(check.StreamResults, "sweep", "network_sweep", "", 2*time.Minute, 30*time.Second),
		results(check.GetResults, "discovery", "lan", `{"seeds": ["192.0.2.1"], "kind": "full"}`, 10*time.Minute, 30*time.Second))}
	return c
}

func sameIdentity(t *testing.T) *config.Config {
	shared := check.TLS{Mode: check.TLSMutual, CertFile: "/certs/p.pem", KeyFile: "/certs/p.key", CAFile: "/ca/root.pem", ServerName: "radar.example"}
	ssh := onPort(status("port", "ssh", "127.0.0.1", cycle), 22)
	c := defaults(t, "p", "192.0.2.9", "core.example:50052")
	c.TLS, c.Core.TLS = shared, shared
	c.Agents = []*check.Agent{agentOf("a", "a.example:50051", shared, ssh), agentOf("b", "b.example:50051", shared, ssh)}
	return c
}

func noSecurity(t *testing.T) *config.Config {
	c := defaults(t, "p", "192.0.2.9", "core:50052")
	c.Agents = []*check.Agent{
		agentOf("a", "agent:50051", plain, status("icmp", "ping", "192.0.2.1", cycle)),
		agentOf("b", "other:50051", plain, status("icmp", "ping", "192.0.2.2", cycle)),
	}
	return c
}

func numbers(t *testing.T) *config.Config {
	c := defaults(t, "p", "192.0.2.9", "core:50052")
	c.Poll.Interval = time.Minute
	c.Agents = []*check.Agent{agentOf("a", "a:50051", plain,
		results(check.StreamResults, "sweep", "exact", "", time.Hour, 30*time.Second),
		results(check.StreamResults, "sweep", "rounded", "", 2*time.Minute, 30*time.Second),
		results(check.StreamResults, "sweep", "fraction", "", 2*time.Minute, 30*time.Second),
		onPort(status("port", "port", "h", time.Minute), 65535),
		status("port", "no port", "h:22", time.Minute))}
	return c
}

func kvBoth(t *testing.T) *config.Config {
	c := defaults(t, "p", "192.0.2.9", "core:50052")
	c.KVStoreID = "site-7"
	c.Agents = []*check.Agent{agentOf("a", "a:50051", plain, status("port", "s", "h:1", cycle))}
	return c
}

func oddNames(t *testing.T) *config.Config {
	c := defaults(t, `Ost \"1\" \\ Süd`, "192.0.2.9", "core:50052")
	c.Partition = "straße"
	c.Agents = []*check.Agent{
		agentOf("CASE", "e:50051", plain),
		agentOf("Größe", "d:50051", plain),
		agentOf("case", "f:50051", plain, status("port", "it's # no comment", "", cycle)),
		agentOf("db.example.org", "a:50051", plain, status("port", `a.b "c" 日本`, "line\nbreak\ttab\x00\x7f", cycle)),
		agentOf(`quote"d`, "c:50051", plain, status("port", "x", "", cycle)),
		agentOf("with space", "b:50051", plain),
	}
	return c
}

// TestMeaning holds what the poller makes of a converted file against what ServiceRadar's poller does.
func TestMeaning(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]func(*testing.T) *config.Config{
		"packaged": packaged, "docker": docker, "same_identity": sameIdentity, "no_security": noSecurity,
		"numbers": numbers, "kv_both": kvBoth, "names": oddNames,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(want(t), parsed(t, name)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoConnectionLosesItsTLS tells for each kind of security what the connections of a file come to.
func TestNoConnectionLosesItsTLS(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]map[string]check.TLSMode{
		"packaged":       {"core": check.TLSMutual, "local-agent": check.TLSMutual},
		"spiffe_files":   {"core": check.TLSMutual, "a": check.TLSMutual},
		"same_identity":  {"core": check.TLSMutual, "a": check.TLSMutual, "b": check.TLSMutual},
		"core_plaintext": {"core": check.TLSNone, "a": check.TLSMutual},
		"case":           {"core": check.TLSNone, "A": check.TLSMutual},
		"written_twice":  {"core": check.TLSMutual, "a": check.TLSNone, "b": check.TLSNone},
		"mixed_security": {
			"core": check.TLSMutual, "default_files": check.TLSMutual, "modeless": check.TLSNone, "plain": check.TLSNone, "relative": check.TLSMutual,
		},
	} {
		c := parsed(t, name)
		got := map[string]check.TLSMode{"core": c.Core.TLS.Mode}
		for i := range c.Agents {
			got[c.Agents[i].Name] = c.Agents[i].TLS.Mode
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
