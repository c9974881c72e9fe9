package convert

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/serviceradar/poller/config"
)

// Where ServiceRadar looked for what its file did not say.
const (
	defaultCertDir  = "/etc/serviceradar/certs"
	defaultCertFile = "client.pem"
	defaultKeyFile  = "client-key.pem"
	defaultCAFile   = "root.pem"
)

// files are what an identity is made of, and whom it expects. They are comparable.
type files struct {
	cert, key, ca string
	serverName    string
}

// identity is how a connection is secured.
type identity struct {
	files
	// table is the identity in TOML; nil means plaintext.
	table *table
	// told marks a plaintext that the file asks for in so many words, or that has been told of.
	told bool
}

// identity converts the security of the connection that belongs to a table: core or agents.NAME. It is
// never inherited. An address without a host has gRPC expect the name localhost.
func (c *conversion) identity(parent *fields, at *table, key string, hostless bool) identity {
	v := parent.want("security", kindObject, "an object")
	if v == nil {
		return identity{}
	}
	t := newTable(key+".tls", v)
	s := c.fields(v, t)
	mode := s.text("mode")
	switch {
	case mode == nil || strings.EqualFold(mode.text, "none"):
		return identity{told: c.plaintext(s, at)}
	case !strings.EqualFold(mode.text, "mtls") && !strings.EqualFold(mode.text, "spiffe"):
		c.problem(mode, `found %s, want "none", "mtls" or "spiffe"`, mode.found())
		return identity{}
	}
	id := identity{table: t}
	c.files(&id, s, mode)
	c.serverName(&id, s, hostless)
	s.ignored("role", "trust_domain", "server_spiffe_id", "workload_socket") // for its own server, and for SPIFFE
	s.rest()
	return id
}

// plaintext tells of what does not fit to no TLS, and returns whether nobody need be told of that any more.
func (c *conversion) plaintext(s *fields, at *table) bool {
	s.at = at
	tls, dir, stated := s.object("tls", at), s.text("cert_dir"), s.text("mode") != nil
	secured := tls != nil || dir != nil
	s.ignored("role", "server_name", "trust_domain", "server_spiffe_id", "workload_socket")
	if secured && !stated {
		c.warn(at, s.of.path(), "names certificates but no mode, which means no TLS to ServiceRadar, so there is none here")
	}
	s.rest()
	return secured || stated
}

// files converts the mode and the files of an identity.
func (c *conversion) files(id *identity, s *fields, mode *value) {
	dir, absolute := defaultCertDir, true
	if v := s.text("cert_dir"); v != nil {
		dir = v.text
	}
	tls := s.object("tls", id.table)
	if tls == nil {
		tls = c.fields(&value{parent: s.of, key: "tls", index: -1, kind: kindObject, off: s.of.off}, id.table)
	}
	var lacks []string
	paths := &table{path: id.table.path}
	for _, file := range []struct {
		name, byDefault string
		to              *string
	}{{"cert_file", defaultCertFile, &id.cert}, {"key_file", defaultKeyFile, &id.key}, {"ca_file", defaultCAFile, &id.ca}} {
		from, name := tls.text(file.name), file.byDefault
		if from == nil {
			lacks, from = append(lacks, file.name), tls.of
		} else {
			name = from.text
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		absolute = absolute && filepath.IsAbs(name)
		*file.to = name
		c.carry(paths, file.name, name, from)
	}
	c.aboutFiles(id.table, tls, mode, lacks)
	id.table.set("mode", config.Quote("mtls"), mode)
	if !absolute {
		c.note(id.table, join(s.of.path(), "cert_dir"), "these paths are not absolute: they start at this file's directory, not where the poller is started")
	}
	id.table.lines = append(id.table.lines, paths.lines...)
	tls.ignored("client_ca_file") // for its own server
	tls.rest()
}

// aboutFiles tells of files that are assumed, and what becomes of SPIFFE.
func (c *conversion) aboutFiles(t *table, tls *fields, mode *value, lacks []string) {
	missing := strings.Join(lacks, ", ")
	switch spiffe := strings.EqualFold(mode.text, "spiffe"); {
	case spiffe && len(lacks) > 0:
		c.problem(mode, `found "spiffe", which the poller does not support yet, and no files to use mutual TLS instead: `+
			"write %s into the tls block beside it, and convert again", missing)
	case spiffe:
		c.warn(t, mode.path(), `found "spiffe", which the poller does not support yet: mutual TLS with the files of the tls block is `+
			"written instead. Look whether these files exist and the other side takes them; "+
			"it is known by the name in its certificate now, not by its SPIFFE ID")
	case len(lacks) > 0:
		c.note(t, tls.of.path(), "has no %s: the names that ServiceRadar falls back to are written", missing)
	}
}

// serverName converts the name that is expected in the other side's certificate.
func (c *conversion) serverName(id *identity, s *fields, hostless bool) {
	switch v := s.text("server_name"); {
	case v != nil:
		id.serverName = v.text
		c.carry(id.table, "server_name", v.text, v)
	case hostless:
		id.serverName = "localhost"
		c.note(id.table, join(s.of.path(), "server_name"), `missing, and so is the host of the address: then ServiceRadar expects "localhost" in the certificate`)
		id.table.set("server_name", config.Quote(id.serverName), s.of)
	default:
		id.table.comment("Without a server_name the certificate has to be for the host of the address.")
	}
}

// secure puts the identities where they belong: in [tls] if all have the same, else each beside its connection.
func (c *conversion) secure(core *table, own identity, agents []agent) {
	secured, same := own.table != nil, own.table != nil && len(agents) > 0
	for _, a := range agents {
		secured = secured || a.identity.table != nil
		same = same && a.identity.table != nil && a.identity.files == own.files
	}
	if same {
		for i := range agents {
			own.table.addComments(agents[i].identity.table)
			agents[i].identity.table = nil
		}
		own.table.header, own.table.key = "[tls]", "tls"
		c.tables = append(c.tables, own.table)
		return
	}
	if own.table != nil {
		c.tables = slices.Insert(c.tables, slices.Index(c.tables, core)+1, own.table)
	} else if secured && !own.told {
		c.note(core, "security", "there is none, so the connection to core has no TLS, as with ServiceRadar")
	}
	for _, a := range agents {
		if secured && a.identity.table == nil && !a.identity.told {
			c.note(a.table, join(a.table.path, "security"), "there is none, so this connection has no TLS; ServiceRadar did not use core's, either")
		}
	}
}
