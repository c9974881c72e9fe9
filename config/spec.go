package config

import "strings"

// key is one key of a table that is decoded into a T: all that is known about it, in one place.
type key[T any] struct {
	// name is dotted within T: "core.timeout".
	name string
	rule
	// def is the default; nil means none.
	def any
	// required says what to write if the key is missing; such a key has no default.
	required string
	// applied marks a key that has done all its work when the configuration is loaded: what is in effect is
	// elsewhere.
	applied bool
	// shared marks a key on which the nodes of a cluster should agree.
	shared bool
	// later marks a key of a part that is not built yet.
	later bool
	// usage is the flag's help text; empty means that there is no flag.
	usage string
	// field points to where the value goes.
	field func(*T) any
}

// spec is all that may stand in a table.
type spec[T any] struct {
	keys   []key[T]
	byName map[string]*key[T]
	// tables hold the names that stand in each table, "" being the outermost.
	tables map[string][]string
}

// newSpec makes a spec of its keys, and of further names that are not simple values.
func newSpec[T any](keys []key[T], others ...string) *spec[T] {
	s := &spec[T]{keys: keys, byName: make(map[string]*key[T], len(keys)), tables: map[string][]string{}}
	known := map[string]bool{}
	add := func(name string) {
		for name != "" && !known[name] {
			known[name] = true
			table, last := "", name
			if i := strings.LastIndexByte(name, '.'); i >= 0 {
				table, last = name[:i], name[i+1:]
			}
			s.tables[table] = append(s.tables[table], last)
			name = table
		}
	}
	for i := range keys {
		s.byName[keys[i].name] = &keys[i]
		add(keys[i].name)
	}
	for _, name := range others {
		add(name)
	}
	return s
}

// setDefaults fills in all defaults.
func (s *spec[T]) setDefaults(target *T) {
	for i := range s.keys {
		if k := &s.keys[i]; k.def != nil {
			store(k.field(target), k.def)
		}
	}
}

// walker reads one table by its spec.
type walker[T any] struct {
	*spec[T]
	problems *problems
	// set takes each value that is well, the last one last if there are more.
	set func(k *key[T], value any, n *node)
	// bad takes the name of each key whose value is not, or is one of several; may be nil.
	bad func(name string)
	// other reads what is not a simple value, if the name is one of those.
	other map[string]func(*node)
}

// walk reads table, whose name within T is as given, and what is below it.
func (w *walker[T]) walk(table *node, name string) {
	for _, kid := range table.earlier {
		w.kid(kid, name)
	}
	for _, kid := range table.kids {
		w.kid(kid, name)
	}
}

// kid reads one key of the table whose name within T is as given.
func (w *walker[T]) kid(n *node, table string) {
	full := join(table, n.key)
	_, isTable := w.tables[full]
	switch other := w.other[full]; {
	case strings.Contains(n.key, "."): // quoted: it must not pass for a dotted key
		w.unknown(n, table)
	case other != nil:
		other(n)
	case w.byName[full] != nil:
		w.leaf(w.byName[full], n)
	case isTable && n.kind == nodeTable:
		w.walk(n, full)
	case isTable:
		w.problems.value(n, "found %s, want a table: write [%s]", n.found(), n.path())
	default:
		w.unknown(n, table)
	}
}

func (w *walker[T]) leaf(k *key[T], n *node) {
	if k.later {
		w.problems.key(n, n.path(), "not supported yet; leave it out")
		return
	}
	value, bad := k.fromNode(n)
	if bad == nil {
		w.set(k, value, n)
	}
	if w.bad != nil && (bad != nil || n.ambiguous()) {
		w.bad(k.name)
	}
	for _, f := range bad {
		at := n
		if f.index >= 0 {
			at = n.elems[f.index]
		}
		w.problems.value(at, "%s", f.msg)
	}
}

func (w *walker[T]) unknown(n *node, table string) {
	w.problems.key(n, n.path(), "unknown key%s", w.hint(n.key, table))
}

// missing reports the required keys that the table, read at the name of T, does not have. If the table
// is written twice, the other may have them.
func (w *walker[T]) missing(table *node) {
	if table.twice {
		return
	}
	for i := range w.keys {
		k := &w.keys[i]
		if k.required != "" && table.kids[k.name] == nil {
			w.problems.key(table, table.child(k.name), "missing: %s", k.required)
		}
	}
}
