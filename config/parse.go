package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// assemble makes a Config of the main file's text and of what that includes, the environment and the flags.
func assemble(name string, text []byte, src Source, addresses addressesFunc) Loaded {
	p := &problems{main: newDocument(name, text)}
	used := Files{}
	if name != "" {
		used.Config = []string{absolutePath(name)}
	}
	l := newLayers(p)
	root := parseTOML(p, p.main)
	found := &tables{}
	if root != nil {
		included := l.file(root, found)
		r := newIncluder(p, found, fileSystem(src.FS), &used)
		for _, list := range included { // more than one is an error by now
			r.include(list)
		}
	}
	l.environment(src.Environ)
	l.flags(src.Flags)
	if root == nil { // nobody knows what the file would say, so nothing follows from it
		return Loaded{Warnings: p.warnings, Err: p.errors(), Files: used}
	}
	c := &Config{}
	l.bind(c, root)
	l.validate(c)
	c.StateDir = resolveStateDir(c.StateDir, p.main.dir)
	l.identities(c, root)
	reader := &agentReader{layers: l, config: c, now: src.Now}
	if reader.now.IsZero() {
		reader.now = time.Now()
	}
	reader.read(found)
	reader.discover(src.Targets)
	sortAgents(c.Agents)
	l.cluster(c, os.Hostname)
	if !l.bad["source_ip"] {
		c.SourceIP = resolveSource(c.SourceIP, src.Environ, addresses, p)
	}
	used.TLS = c.TLSFiles()
	if err := p.errors(); err != nil {
		return Loaded{Warnings: p.warnings, Err: err, Files: used}
	}
	return Loaded{Config: c, Warnings: p.warnings, Files: used}
}

// directory is where relative paths in a file start.
func directory(name string) string { return absolutePath(filepath.Dir(name)) }

// validate holds the rules between keys outside the agents.
func (l *layers) validate(c *Config) {
	l.timeouts(c)
	if c.Restart.Initial > c.Restart.Max && !l.bad["restart.initial"] && !l.bad["restart.max"] {
		key := "restart.initial"
		if !l.origins[key].written() {
			key = "restart.max"
		}
		l.at(l.origins[key], key, "found restart.initial %q above restart.max %q; the first back-off must not be longer than the longest",
			formatDuration(c.Restart.Initial), formatDuration(c.Restart.Max))
	}
	if c.Spool.MaxBytes < c.Core.MaxMessage && !l.bad["spool.max_bytes"] && !l.bad["core.max_message"] {
		key := "spool.max_bytes"
		if !l.origins[key].written() {
			key = "core.max_message"
		}
		l.at(l.origins[key], key, "found spool.max_bytes %q below core.max_message %q; the spool must hold at least one report of full size",
			formatSize(c.Spool.MaxBytes), formatSize(c.Core.MaxMessage))
	}
	if c.Metrics.PerCheck && c.Admin.Listen == "" && !l.bad["admin.listen"] {
		l.warn(`metrics.per_check: nobody can read metrics, because admin.listen is ""; give it a host:port, or leave this out`)
	}
	if c.Spool.MaxBytes < minDisk && c.StateDir != StateMemory && !l.bad["spool.max_bytes"] && !l.bad["state_dir"] {
		l.at(l.origins["spool.max_bytes"], "spool.max_bytes", "found %q, want at least %q where reports are kept on disk, because they are kept in files of a good size; "+
			`less is allowed with state_dir = "memory"`, formatSize(c.Spool.MaxBytes), formatSize(minDisk))
	}
}

// timeouts lets the built-in timeout give way to a shorter cycle. One that somebody wrote does not:
// they are told that it can't hold.
func (l *layers) timeouts(c *Config) {
	if l.bad["poll.timeout"] || l.bad["poll.interval"] {
		return
	}
	if where := l.origins["poll.timeout"]; where.written() {
		l.fitsCycle(c, where, "poll.timeout", c.Poll.Timeout)
	} else {
		c.Poll.Timeout = min(c.Poll.Timeout, c.Poll.Interval)
	}
}

// fitsCycle reports a timeout above poll.interval, and so also one above its check's interval.
func (l *layers) fitsCycle(c *Config, where place, key string, timeout time.Duration) {
	if timeout > c.Poll.Interval && !l.bad["poll.interval"] {
		l.at(where, key, "found %q above poll.interval, which is %q; a cycle waits no longer than that for its runs: write at most %[2]q, or a longer poll.interval",
			formatDuration(timeout), formatDuration(c.Poll.Interval))
	}
}

// identities checks [tls] and core.tls, and hands the former on where there is none of the latter.
func (l *layers) identities(c *Config, root *node) {
	l.identity(&c.TLS, "tls")
	// Where core's identity begins: its table in the file, else the first of its keys that comes from elsewhere.
	own := place{}
	for _, key := range []string{"server_name", "ca_file", "key_file", "cert_file", "mode"} {
		if where := l.origins["core.tls."+key]; where.written() {
			own = where
		}
	}
	if core := root.kids["core"]; core != nil && core.kids["tls"] != nil {
		own = place{node: core.kids["tls"]}
	}
	if !own.written() {
		c.Core.TLS = c.TLS
		return
	}
	modeless := !l.bad["core.tls.mode"] && !l.origins["core.tls.mode"].written()
	if modeless && !mayBeModeless(l.problems, &c.TLS, own, "core.tls") {
		return
	}
	l.identity(&c.Core.TLS, "core.tls")
}

// mayBeModeless reports an identity without a mode where there is one to be replaced: nobody who wrote
// mTLS for all means plaintext by an empty table.
func mayBeModeless(p *problems, replaced *check.TLS, where place, table string) bool {
	if replaced.Mode == check.TLSNone {
		return true
	}
	p.at(where, join(table, "mode"), `missing: this table replaces [tls] as a whole, whose mode is %q, and without a mode there is no TLS; `+
		`write mode = "mtls", "tls" or "none", or leave the table out`, replaced.Mode)
	return false
}

func (l *layers) identity(tls *check.TLS, table string) {
	if !l.bad[table+".mode"] {
		checkIdentity(l.problems, tls, table, func(key string) place { return l.origins[table+"."+key] })
	}
	resolvePaths(tls, l.main.dir)
}

// identityKeys returns what an identity has written, by key.
func identityKeys(tls *check.TLS) []struct{ key, value string } {
	return []struct{ key, value string }{
		{"cert_file", tls.CertFile}, {"key_file", tls.KeyFile}, {"ca_file", tls.CAFile}, {"server_name", tls.ServerName},
	}
}

// checkIdentity reports what does not fit together in an identity whose keys are where the function says.
func checkIdentity(p *problems, tls *check.TLS, table string, where func(key string) place) {
	withTLS := `"tls" or "mtls"`
	if table == clusterTLS {
		withTLS = `"mtls"`
	}
	for _, k := range identityKeys(tls) {
		switch {
		case tls.Mode == check.TLSNone && k.value != "":
			p.at(where(k.key), join(table, k.key),
				`found %s, but the mode is "none", which uses no TLS; write mode = %s, or leave this out`, foundText(k.value), withTLS)
		case tls.Mode == check.TLSMutual && k.value == "" && k.key != "server_name":
			p.at(where("mode"), join(table, k.key), `missing: mode "mtls" needs cert_file, key_file and ca_file`)
		}
	}
	if tls.Mode != check.TLSServer {
		return
	}
	switch {
	case tls.CertFile != "" && tls.KeyFile == "":
		p.at(where("cert_file"), join(table, "key_file"), "missing: a certificate is of no use without its key; write both or neither")
	case tls.CertFile == "" && tls.KeyFile != "":
		p.at(where("key_file"), join(table, "cert_file"), "missing: a key is of no use without its certificate; write both or neither")
	case tls.CertFile != "":
		p.warn(`%s: mode "tls" shows checkers and core no certificate of ours, so cert_file and key_file are not used; `+
			`write mode = "mtls" if they ask for one`, table)
	}
}

// TLSFiles returns the absolute paths of all files with certificates, keys and authorities that the
// identities name, each once, sorted.
func (c *Config) TLSFiles() []string {
	identities := map[check.TLS]bool{c.TLS: true, c.Core.TLS: true}
	if c.Cluster.Enabled {
		identities[c.Cluster.TLS] = true
	}
	for _, a := range c.Agents {
		identities[a.TLS] = true
	}
	var names []string
	for tls := range identities {
		for _, name := range []string{tls.CertFile, tls.KeyFile, tls.CAFile} {
			if name != "" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func resolveStateDir(path, dir string) string {
	switch {
	case path == StateAuto || path == StateMemory:
		return path
	case filepath.IsAbs(path):
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func resolvePaths(tls *check.TLS, dir string) {
	for _, file := range []*string{&tls.CertFile, &tls.KeyFile, &tls.CAFile} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
}

// sortAgents puts agents in the order of their names.
func sortAgents(agents []*check.Agent) {
	slices.SortFunc(agents, func(a, b *check.Agent) int { return strings.Compare(a.Name, b.Name) })
}
