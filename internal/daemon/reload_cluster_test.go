package daemon

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/serviceradar/poller/config"
)

// While the poller runs only what changes nothing of how nodes reach each other can change in [cluster]; as long as that is not enabled, all can.
func TestMayReplaceCluster(t *testing.T) {
	t.Parallel()
	was := map[string]string{
		"enabled": "true", "name": `"a"`, "node": `"a"`, "listen": `"127.0.0.1:1"`, "remote": `"127.0.0.1:2"`, "seeds": `["127.0.0.1:1"]`,
		"size": "3", "on_minority": `"step_down"`, "weight": "1",
		"tls.mode": `"mtls"`, "tls.cert_file": `"/a"`, "tls.key_file": `"/a"`, "tls.ca_file": `"/a"`, "tls.server_name": `"a"`,
	}
	load := func(key, value string) *config.Config {
		t.Helper()
		keys := maps.Clone(was)
		keys[key] = value
		text := "poller_id = \"p\"\nsource_ip = \"127.0.0.1\"\ncore.addresses = [\"127.0.0.1:1\"]\n[cluster]\n"
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			text += key + " = " + keys[key] + "\n"
		}
		cfg, _, err := config.Parse("test.toml", []byte(text), config.Source{})
		if err != nil {
			t.Fatalf("%s = %s: %v", key, value, err)
		}
		return cfg
	}
	other := map[string]string{
		"enabled": "false", "name": `"b"`, "node": `"b"`, "listen": `"127.0.0.1:3"`, "remote": `"127.0.0.1:3"`, "seeds": `["127.0.0.1:3"]`,
		"size": "5", "on_minority": `"keep"`, "weight": "0",
		"tls.mode": `"none"`, "tls.cert_file": `"/b"`, "tls.key_file": `"/b"`, "tls.ca_file": `"/b"`, "tls.server_name": `"b"`,
	}
	for key, value := range other {
		if key == "tls.mode" {
			continue // not without the files
		}
		err := mayReplace(load("enabled", "true"), load(key, value))
		switch free := slices.Contains([]string{"size", "weight"}, key); {
		case free && err != nil:
			t.Errorf("%s: %v, want none", key, err)
		case !free && (err == nil || !strings.HasPrefix(err.Error(), "cluster."+key+" can't change from "+was[key]+" to "+value+" while")):
			t.Errorf("%s: %v, want an error that names it", key, err)
		}
	}
	was["enabled"] = "false"
	for key, value := range other {
		if key == "enabled" {
			continue
		}
		if err := mayReplace(load("enabled", "false"), load(key, value)); err != nil {
			t.Errorf("not enabled, %s: %v, want none", key, err)
		}
	}
}
