package convert

import (
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/config"
)

// defaultInterval is ServiceRadar's, and ours, too.
const defaultInterval = 30 * time.Second

// defaultTimeout is that of a run at ours.
const defaultTimeout = 10 * time.Second

// Bounds of config for times.
const (
	minInterval = time.Second
	maxInterval = 365 * 24 * time.Hour
)

// poller converts the outermost object.
func (c *conversion) poller(root *value) {
	c.header = &table{}
	c.header.comment("The poller's configuration, converted from ServiceRadar's format by `poller convert`. Comments say what")
	c.header.comment("was changed and what deserves a look; deploy/poller.toml shows every key there is.")
	c.tables = append(c.tables, c.header)
	f := c.fields(root, c.header)
	c.who(f)
	c.log(f)
	core, coreTLS := c.core(f)
	c.poll(f)
	agents := c.agents(f)
	f.rest()
	c.secure(core, coreTLS, agents)
	for _, a := range agents {
		c.tables = append(c.tables, a.table)
		if a.identity.table != nil {
			c.tables = append(c.tables, a.identity.table)
		}
		c.tables = append(c.tables, a.checks...)
	}
	c.introduce()
}

// introduction is how many lines the header has before its notes.
const introduction = 2

// introduce makes a list of the header's notes, if there are any.
func (c *conversion) introduce() {
	notes := c.header.lines[introduction:]
	for i := range notes {
		notes[i].comment = "- " + notes[i].comment
	}
	if len(notes) > 0 {
		c.header.lines = slices.Insert(c.header.lines, introduction, line{}, line{comment: "Of what ServiceRadar's file says, this has no place below:"})
	}
}

// who converts what the poller tells core of itself.
func (c *conversion) who(f *fields) {
	t := &table{from: f.of}
	c.tables = append(c.tables, t)
	if v := f.text("poller_id"); v != nil {
		c.carry(t, "poller_id", v.text, v)
	} else {
		c.missing(f.of, "poller_id", "who this poller is, to core")
	}
	if v := f.text("partition"); v != nil {
		c.carry(t, "partition", v.text, v)
	} else {
		t.set("partition", config.Quote("default"), f.of)
	}
	if v := f.text("source_ip"); v != nil {
		c.carry(t, "source_ip", v.text, v)
	} else {
		c.note(t, "source_ip", `missing, though ServiceRadar does not start without it: "auto" is written, the address of an interface`)
		t.set("source_ip", config.Quote("auto"), f.of)
	}
	c.keyValueStore(f, t)
	if has := f.present("listen_addr", "service_name", "service_type"); len(has) > 0 {
		c.note(c.header, strings.Join(has, ", "), "not needed: the poller has no gRPC server of its own; its health is at admin.listen, http://127.0.0.1:9464/healthz")
	}
}

// keyValueStore converts what core is told of a key-value store.
func (c *conversion) keyValueStore(f *fields, t *table) {
	domain, address := f.text("kv_domain"), f.text("kv_address")
	if domain == nil && address == nil {
		return
	}
	id := domain
	switch {
	case domain == nil:
		id = address
		c.note(t, address.path(), "passed on to core, as the name of the store; the poller itself uses no key-value store")
	case address != nil:
		c.note(t, address.path(), "not carried: the poller itself uses no key-value store, and core is told the kv_domain")
	}
	c.carry(t, "kv_store_id", id.text, id)
}

// levels are ServiceRadar's log levels and ours.
var levels = map[string]string{
	"trace": "trace", "debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error",
	"fatal": "error", "panic": "error", "disabled": "error",
}

// log converts how it logs.
func (c *conversion) log(f *fields) {
	v := f.want("logging", kindObject, "an object")
	if v == nil {
		return
	}
	t := newTable("log", v)
	logging := c.fields(v, t)
	c.level(logging, t)
	if v := logging.text("output"); v != nil && !strings.EqualFold(v.text, "stderr") {
		c.note(t, v.path(), "not carried: found %s, but the poller logs to stderr", v.found())
	}
	if v := logging.text("time_format"); v != nil {
		c.note(t, v.path(), "not carried: the format of times is fixed")
	}
	if v := logging.get("otel"); v != nil {
		c.note(t, v.path(), "not carried: the poller sends no OpenTelemetry")
	}
	logging.rest()
	if len(t.lines) > 0 {
		c.tables = append(c.tables, t)
	}
}

func (c *conversion) level(logging *fields, t *table) {
	v := logging.text("level")
	if logging.truth("debug") {
		t.set("level", config.Quote("debug"), logging.of)
		return
	}
	if v == nil {
		return
	}
	level, known := levels[strings.ToLower(v.text)]
	switch {
	case !known:
		level = "info"
		c.note(t, v.path(), `found %s, which is no level: "info" is written`, v.found())
	case level == "error" && !strings.EqualFold(v.text, "error"):
		c.note(t, v.path(), `found %s, but "error" is the least that the poller logs`, v.found())
	}
	t.set("level", config.Quote(level), v)
}

// core converts where reports go.
func (c *conversion) core(f *fields) (*table, identity) {
	v, old := f.text("core_address"), f.text("cloud_address")
	t := &table{header: "[core]", key: "core", from: f.of}
	c.tables = append(c.tables, t)
	switch {
	case v == nil && old == nil:
		c.missing(f.of, "core_address", `where reports go; write the host:port of core, such as "127.0.0.1:50052"`)
	case v == nil:
		v = old
		c.note(t, old.path(), "the former name of core_address, taken as that")
	case old != nil:
		c.note(t, old.path(), "not carried: the former name of core_address, which is there, too")
	}
	hostless := false
	if v != nil {
		var address string
		address, hostless = c.address(t, v)
		c.placeholders(t, address, v)
		t.set("addresses", "["+config.Quote(address)+"]", v)
	}
	return t, c.identity(f, t, "core", hostless)
}

// poll converts when checks run.
func (c *conversion) poll(f *fields) {
	t := &table{header: "[poll]", key: "poll", from: f.of}
	c.tables = append(c.tables, t)
	d, v := f.duration("poll_interval")
	written := d
	switch {
	case d == 0:
		written = defaultInterval
		if v == nil {
			v = f.of
		}
	case d > 0 && d < minInterval:
		written = minInterval
		c.note(t, v.path(), "found %s, but 1s is the shortest that the poller takes", v.foundDuration())
	}
	t.set("interval", config.Quote(durationText(written)), v)
	c.interval = written
	if written < minInterval || written > maxInterval { // config refuses it, for that and for nothing else
		c.interval = defaultInterval
	}
	t.comment(`timeout = "` + durationText(min(defaultTimeout, c.interval)) +
		`" # of one check; ServiceRadar gave 30s to all checks of an agent together`)
}
