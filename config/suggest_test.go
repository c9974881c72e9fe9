package config

import "testing"

func TestNearest(t *testing.T) {
	t.Parallel()
	root, agent, checks := rootSpec.tables[""], agentSpec.tables[""], checkSpec.tables[""]
	tests := []struct {
		name, want string
		candidates []string
	}{
		// Neighbours swapped, also together with another slip where the name is long enough.
		{"prot", "port", checks},
		{"tpye", "type", checks},
		{"nmae", "name", checks},
		{"naem", "name", checks},
		{"detials", "details", checks},
		{"tiemout", "timeout", checks},
		{"intrevals", "interval", checks},
		{"adress", "address", agent},
		{"hceck", "", agent},
		{"tsl", "tls", agent},
		{"agnets", "agents", root},
		{"psolo", "", root}, // two swaps in a short name
		{"spolo", "spool", root},
		{"poller-di", "poller_id", root},
		{"mtsl", "mtls", []string{"none", "tls", "mtls"}},
		{"LGO", "log", root},
		// One letter.
		{"typ", "type", checks},
		{"prts", "", checks},
		{"ports", "port", checks},
		{"part", "port", checks},
		{"typé", "type", checks},
		{"éport", "port", checks},
		// Nothing is near: words that somebody means.
		{"host", "", checks},
		{"path", "", checks},
		{"mode", "", checks},
		{"url", "", checks},
		{"tags", "", checks},
		{"user", "", checks},
		{"note", "", checks},
		{"method", "", checks},
		{"format", "", checks},
		{"period", "", checks},
		{"every", "", checks},
		{"retries", "", checks},
		{"target", "", checks},
		{"enabled", "", checks},
		{"description", "", checks},
		{"host", "", agent},
		{"port", "", agent},
		{"name", "", agent},
		{"http", "", root},
		{"logging", "", root},
		{"version", "", root},
		{"telemetry", "", root},
		{"", "", checks},
		{"x", "", checks},
	}
	for _, test := range tests {
		if got := nearest(test.name, test.candidates); got != test.want {
			t.Errorf("nearest to %q is %q, want %q", test.name, got, test.want)
		}
	}
}

func TestSlips(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b string
		want int
	}{
		{"port", "port", 0},
		{"prot", "port", 1},
		{"otrp", "port", 3},
		{"größe", "grßöe", 1},
		{"", "ab", 2},
	}
	for _, test := range tests {
		if got := slips(test.a, test.b); got != test.want {
			t.Errorf("slips(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
