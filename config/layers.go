package config

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// EnvPrefix begins the names of the environment variables that set keys.
const EnvPrefix = "POLLER_"

// envKeys are the keys by their variables' names.
var envKeys = func() map[string]*key[Config] {
	byName := make(map[string]*key[Config])
	for i := range rootSpec.keys {
		if k := &rootSpec.keys[i]; !k.later {
			byName[EnvPrefix+strings.ToUpper(strings.ReplaceAll(k.name, ".", "__"))] = k
		}
	}
	return byName
}()

// EnvKeys returns the names of the environment variables that set keys, sorted: POLLER_CORE__TIMEOUT
// sets core.timeout. Lists are separated by commas.
func EnvKeys() []string {
	names := make([]string, 0, len(envKeys))
	for name := range envKeys {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// AddFlags adds a flag for each key that is often set by hand, named as the key is. They have no
// defaults of their own: only flags that are given count.
func AddFlags(fs *pflag.FlagSet) {
	for i := range rootSpec.keys {
		switch k := &rootSpec.keys[i]; {
		case k.usage == "":
		case k.kind == kindList:
			fs.StringSlice(k.name, nil, k.usage)
		default:
			fs.String(k.name, "", k.usage)
		}
	}
}

// layers merges what may be written in more than one place: all keys outside the agents. Those come
// from the file alone, and merging copies and flattens, so they stay out of it.
type layers struct {
	*problems
	merged *koanf.Koanf
	// origins tell who wrote each key last; bad keys were written wrong somewhere, or twice in the file.
	origins map[string]place
	bad     map[string]bool
}

// flat is a layer: values that are checked already, by dotted key. It is a koanf.Provider.
type flat map[string]any

func (f flat) Read() (map[string]any, error) { return maps.Unflatten(f, "."), nil }

func (f flat) ReadBytes() ([]byte, error) {
	return nil, errors.New("config: a flat layer has no bytes")
}

func newLayers(p *problems) *layers {
	l := &layers{problems: p, merged: koanf.New("."), origins: map[string]place{}, bad: map[string]bool{}}
	defaults := flat{}
	for i := range rootSpec.keys {
		if k := &rootSpec.keys[i]; k.def != nil {
			defaults[k.name] = k.def
		}
	}
	l.load(defaults)
	return l
}

func (l *layers) load(p koanf.Provider) {
	if err := l.merged.Load(p, nil); err != nil {
		// None of our providers can fail.
		panic("config: " + err.Error())
	}
}

// file adds the main file. It puts the tables that others may add to where they are found, and returns the lists
// of those others.
func (l *layers) file(root *node, found *tables) (included []*node) {
	layer := flat{}
	add := func(n *node) { found.add(n) }
	w := &walker[Config]{
		spec: rootSpec, problems: l.problems,
		other: map[string]func(*node){
			agentsTable: add, profilesTable: add,
			includeKey:  func(n *node) { included = append(included, n) },
			fileSources: func(n *node) { found.files = append(found.files, n) },
			httpSources: func(n *node) { found.urls = append(found.urls, n) },
			silenceKey:  func(n *node) { found.silences = append(found.silences, n) },
		},
		set: func(k *key[Config], value any, n *node) {
			layer[k.name] = value
			l.origins[k.name] = place{node: n}
		},
		bad: func(name string) { l.bad[name] = true },
	}
	w.walk(root, "")
	l.load(layer)
	return included
}

// environment adds the POLLER_* variables.
func (l *layers) environment(environ []string) {
	var unknown []string
	l.load(env.Provider(".", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			k := envKeys[name]
			if k == nil {
				unknown = append(unknown, name)
				return "", nil
			}
			return l.text(k, value, "environment "+name)
		},
	}))
	if len(unknown) == 0 {
		return
	}
	slices.Sort(unknown)
	unknown = slices.Compact(unknown)
	names := EnvKeys()
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], EnvPrefix)
	}
	for i, name := range unknown {
		if near := nearest(strings.TrimPrefix(name, EnvPrefix), names); near != "" {
			unknown[i] += " (did you mean " + EnvPrefix + near + "?)"
		}
	}
	l.warn("environment: these variables set no key and are ignored: %s; core.timeout is set by POLLER_CORE__TIMEOUT, "+
		"with two underscores for the dot, and agents by the file alone", strings.Join(unknown, ", "))
}

// flags adds the flags that were given.
func (l *layers) flags(fs *pflag.FlagSet) {
	if fs == nil {
		return
	}
	l.load(posflag.ProviderWithFlag(fs, ".", nil, func(f *pflag.Flag) (string, any) {
		k := rootSpec.byName[f.Name]
		if k == nil || k.later || !f.Changed {
			return "", nil
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		return l.text(k, value, "flag --"+f.Name)
	}))
}

// text reads a value that was not written in the file, for koanf: no key means none.
func (l *layers) text(k *key[Config], value, source string) (string, any) {
	v, bad := k.fromText(value)
	if bad == nil {
		l.origins[k.name] = place{source: source}
		return k.name, v
	}
	for _, f := range bad {
		name := k.name
		if f.index >= 0 {
			name += "[" + strconv.Itoa(f.index) + "]"
		}
		l.at(place{source: source}, name, "%s", f.msg)
	}
	l.bad[k.name] = true
	return "", nil
}

// bind writes what the layers came to into a Config, and reports what nobody wrote but had to.
func (l *layers) bind(c *Config, root *node) {
	for i := range rootSpec.keys {
		k := &rootSpec.keys[i]
		value := l.merged.Get(k.name)
		switch {
		case k.later:
		case value != nil:
			store(k.field(c), value)
		case k.required != "" && !l.bad[k.name]:
			where := root
			if name, _, nested := strings.Cut(k.name, "."); nested && root.kids[name] != nil {
				where = root.kids[name]
			}
			if where.kind == nodeTable { // else that has been reported
				l.key(where, k.name, "missing: %s", k.required)
			}
		}
	}
}
