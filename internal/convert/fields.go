package convert

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fields are an object that is read by the names that are known; others are told of by rest.
type fields struct {
	*conversion
	of *value
	// at is the table that what is told of the object belongs to.
	at    *table
	known []string
}

func (c *conversion) fields(of *value, at *table) *fields {
	return &fields{conversion: c, of: of, at: at}
}

// matches are the kids of a name. Case does not count, as it does not for ServiceRadar.
func (v *value) matches(name string) []*value {
	var all []*value
	for _, kid := range v.kids {
		if strings.EqualFold(kid.key, name) {
			all = append(all, kid)
		}
	}
	return all
}

// get returns a field, nil if it is missing or null.
func (f *fields) get(name string) *value {
	f.known = append(f.known, name)
	all := f.of.matches(name)
	if len(all) == 0 {
		return nil
	}
	v := merge(all)
	if path := join(f.of.path(), name); len(all) > 1 && v.kind == kindObject {
		f.note(f.at, path, "written %d times: what they hold counts together, as with ServiceRadar", len(all))
	} else if len(all) > 1 {
		f.note(f.at, path, "written %d times: the last one counts, as with ServiceRadar", len(all))
	}
	if v.kind == kindNull {
		return nil
	}
	return v
}

// merge does with fields that are written more than once what Go's decoder does.
func merge(all []*value) *value {
	v, own := all[0], false // own: v is a copy that may be added to
	for _, next := range all[1:] {
		if v.kind != kindObject || next.kind != kindObject {
			v, own = next, false
			continue
		}
		both := *next
		if own {
			both.kids = append(v.kids, next.kids...)
		} else {
			both.kids = slices.Concat(v.kids, next.kids)
		}
		v, own = &both, true
	}
	return v
}

// from returns a field as it is in the JSON, or the object itself if it is missing.
func (f *fields) from(name string) *value {
	if all := f.of.matches(name); len(all) > 0 {
		return merge(all)
	}
	return f.of
}

// want returns a field if it is of a kind, nil if it is missing or something else, which is reported.
func (f *fields) want(name string, k kind, words string) *value {
	v := f.get(name)
	if v != nil && v.kind != k {
		f.problem(v, "found %s, want %s", v.found(), words)
		return nil
	}
	return v
}

// text returns a field that is a string, nil if it is missing or empty.
func (f *fields) text(name string) *value {
	if v := f.want(name, kindText, "text in quotes"); v != nil && v.text != "" {
		return v
	}
	return nil
}

// ignored reads fields that are strings, and of no use here.
func (f *fields) ignored(names ...string) {
	for _, name := range names {
		f.text(name)
	}
}

// truth returns a field that is true or false; it is false if it is missing.
func (f *fields) truth(name string) bool {
	v := f.want(name, kindTruth, "true or false")
	return v != nil && v.truth
}

// integer returns a field that is a whole number, nil if it is missing or 0.
func (f *fields) integer(name string) *value {
	v := f.want(name, kindNumber, "a whole number")
	if v == nil || v.text == "0" || v.text == "-0" {
		return nil
	}
	if _, err := strconv.ParseInt(v.text, 10, 32); err != nil {
		f.problem(v, "found %s, want a whole number", v.found())
		return nil
	}
	return v
}

// object returns the fields of an object, nil if it is missing.
func (f *fields) object(name string, at *table) *fields {
	if v := f.want(name, kindObject, "an object"); v != nil {
		return f.fields(v, at)
	}
	return nil
}

// duration returns a field that is a duration, and its value; nil if it is missing.
func (f *fields) duration(name string) (time.Duration, *value) {
	v := f.get(name)
	if v == nil {
		return 0, nil
	}
	d, ok := v.duration()
	if !ok {
		f.problem(v, `found %s, want a duration such as "30s", or a number of nanoseconds`, v.found())
		return 0, nil
	}
	return d, v
}

// duration reads Go's durations and numbers of nanoseconds.
func (v *value) duration() (time.Duration, bool) {
	switch v.kind {
	case kindText:
		d, err := time.ParseDuration(v.text)
		return d, err == nil
	case kindNumber:
		if i, err := strconv.ParseInt(v.text, 10, 64); err == nil {
			return time.Duration(i), true
		}
		ns, err := strconv.ParseFloat(v.text, 64)
		return time.Duration(ns), err == nil && math.Abs(ns) < math.MaxInt64
	case kindNull, kindTruth, kindArray, kindObject:
	}
	return 0, false
}

// foundDuration says what a duration is, for messages.
func (v *value) foundDuration() string {
	if v.kind == kindNumber {
		return v.found() + " nanoseconds"
	}
	return v.found()
}

// rest tells of the fields that nobody asked for.
func (f *fields) rest() {
	told := map[string]bool{}
	for _, kid := range f.of.kids {
		if !f.knows(kid.key) && !told[kid.key] {
			told[kid.key] = true
			f.note(f.at, kid.path(), "not carried: not a setting of ServiceRadar's that is taken over")
		}
	}
}

func (f *fields) knows(key string) bool {
	for _, name := range f.known {
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}

// present returns those of the names that the object has, and marks all of them as known.
func (f *fields) present(names ...string) []string {
	f.known = append(f.known, names...)
	var has []string
	for _, name := range names {
		if len(f.of.matches(name)) > 0 {
			has = append(has, name)
		}
	}
	return has
}

// durationText writes a duration as people do: 1m, not 1m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
