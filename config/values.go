package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/serviceradar/poller/internal/check"
)

// kind is what a key's value is, in the file and in Go.
type kind uint8

const (
	kindString   kind = iota // string
	kindInt                  // int64
	kindDuration             // time.Duration, "30s" in the file
	kindSize                 // int64, "3MiB" or a number of bytes in the file
	kindList                 // []string
	kindBool                 // bool
	kindURL                  // string, of which no secret is ever shown
	kindTime                 // time.Time, a date and time with an offset in the file
)

// rule says which values are allowed. Its methods return the value, and what is wrong with it.
type rule struct {
	kind  kind
	oneOf []string
	// min and max bound numbers, durations and sizes.
	min, max int64
	// paths tells that a list is of paths: case counts, and what is there instead may be a URL with secrets.
	paths bool
	// exact tells of another list that case counts.
	exact bool
	// loose tells that a list may be empty, and may have the same twice.
	loose bool
	// want says what a string, or each of a list, ought to be; "" if it is.
	want func(string) string
	// why is added where a bound is broken.
	why string
}

// fault is what is wrong with a value, and at which of a list's elements; -1 if it is the value.
type fault struct {
	index int
	msg   string
}

// faults is nil if the value is well; only lists can have more than one.
type faults []fault

func faultf(format string, args ...any) faults { return elementFault(-1, format, args...) }

func elementFault(index int, format string, args ...any) faults {
	return faults{{index: index, msg: fmt.Sprintf(format, args...)}}
}

// fromNode reads a value of the file.
func (r *rule) fromNode(n *node) (any, faults) {
	text, isText := n.value.(string)
	isText = isText && n.kind == nodeString
	number, isNumber := n.value.(int64)
	truth, isTruth := n.value.(bool)
	at, isTime := n.value.(time.Time)
	switch {
	case r.kind == kindList:
		return r.listFromNode(n)
	case r.kind == kindBool && isTruth:
		return truth, nil
	case r.kind == kindTime && isTime:
		return moment(at, n.found())
	case r.kind == kindInt && isNumber:
		return r.bounded(number, n.found())
	case r.kind == kindSize && isNumber:
		return r.bounded(number, n.found())
	case r.kind != kindInt && r.kind != kindBool && isText:
		return r.fromText(text)
	case r.kind == kindString && isNumber:
		return nil, faultf("found %s, want text in quotes: %q", n.found(), n.raw)
	case r.kind == kindDuration && isNumber && number > 0:
		return nil, faultf("found %s, want a duration with its unit, such as %q", n.found(), n.raw+"s")
	}
	return nil, faultf("found %s, want %s", n.found(), r.allowed())
}

// fromText reads a string of the file, or the value of a variable or a flag.
func (r *rule) fromText(s string) (any, faults) {
	if !utf8.ValidString(s) {
		return nil, faultf("found %s, which is not UTF-8", foundText(s))
	}
	switch r.kind {
	case kindString, kindURL:
		return s, r.checkString(s)
	case kindInt:
		i, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil {
			return nil, faultf("found %s, want %s", foundText(s), r.allowed())
		}
		return r.bounded(i, foundText(s))
	case kindDuration:
		d, err := time.ParseDuration(s)
		switch {
		case err != nil && strings.HasSuffix(s, "d"):
			return nil, faultf(`found %s, want %s; days are written in hours, such as "168h"`, foundText(s), r.allowed())
		case err != nil:
			return nil, faultf("found %s, want %s", foundText(s), r.allowed())
		}
		_, bad := r.bounded(int64(d), foundText(s))
		return d, bad
	case kindSize:
		i, bad := parseSize(s)
		if bad != "" {
			return nil, faultf("found %s, %s", foundText(s), bad)
		}
		return r.bounded(i, foundText(s))
	case kindList:
		var list []string
		if strings.TrimSpace(s) != "" {
			list = strings.Split(s, ",")
		}
		return r.list(list)
	case kindBool:
		truth, err := strconv.ParseBool(s)
		if err != nil {
			return nil, faultf("found %s, want %s", foundText(s), r.allowed())
		}
		return truth, nil
	case kindTime:
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil, faultf("found %s, want %s", foundText(s), r.allowed())
		}
		return moment(at, foundText(s))
	}
	panic("config: a kind without a reader")
}

// moment returns a time as a Config has it.
func moment(at time.Time, found string) (any, faults) {
	at = at.UTC()
	if year := at.Year(); year < 1970 || year > 9999 {
		return nil, faultf("found %s, want a time in the years from 1970 to 9999", found)
	}
	return at, nil
}

func (r *rule) listFromNode(n *node) (any, faults) {
	if n.kind != nodeArray {
		return nil, faultf("found %s, want %s", n.found(), r.allowed())
	}
	list := make([]string, len(n.elems))
	var bad faults
	for i, elem := range n.elems {
		if elem.kind != nodeString {
			bad = append(bad, elementFault(i, "found %s, want text in quotes", elem.found())...)
			continue
		}
		list[i] = elem.value.(string)
	}
	if bad != nil {
		return nil, bad
	}
	return r.list(list)
}

// list checks a list of strings, which holds at least one and none twice, unless it is loose; an empty one is nil.
func (r *rule) list(list []string) (any, faults) {
	if len(list) == 0 && r.loose {
		return []string(nil), nil
	}
	if len(list) == 0 {
		return nil, faultf("found an empty list, want at least one")
	}
	var bad faults
	seen := make(map[string]int, len(list))
	for i, s := range list {
		s = strings.TrimSpace(s)
		list[i] = s
		for _, f := range r.checkString(s) {
			bad = append(bad, fault{index: i, msg: f.msg})
		}
		same := s
		if !r.paths && !r.exact {
			same = strings.ToLower(s)
		}
		if first, twice := seen[same]; twice && s != "" && !r.loose {
			bad = append(bad, elementFault(i, "found %s again, it is already number %d of the list; write it once", foundText(s), first+1)...)
			continue
		}
		seen[same] = i
	}
	return list, bad
}

func (r *rule) checkString(s string) faults {
	if len(r.oneOf) > 0 && !slices.Contains(r.oneOf, s) {
		return faultf("found %s, want %s%s", foundText(s), r.allowed(), suggestText(s, r.oneOf))
	}
	if r.want != nil {
		if want := r.want(s); want != "" {
			return faultf("found %s, %s", r.found(s), want)
		}
	}
	return nil
}

// found is foundText for values of the rule, without all that may be secret of a URL.
func (r *rule) found(s string) string {
	if r.kind != kindURL && (!r.paths || !strings.Contains(s, "://")) {
		return foundText(s)
	}
	if shown, ok := check.MaskURL(s); ok {
		return strconv.Quote(shorten(shown))
	}
	return "a text" // which may be nothing but a secret
}

func (r *rule) bounded(i int64, found string) (any, faults) {
	if i >= r.min && i <= r.max {
		return i, nil
	}
	why := ""
	if r.why != "" {
		why = ": " + r.why
	}
	switch {
	case r.min == 1 && i < r.min:
		return nil, faultf("found %s, want more than zero%s", found, why)
	case i < r.min:
		return nil, faultf("found %s, want at least %s%s", found, r.show(r.min), why)
	}
	return nil, faultf("found %s, want at most %s%s", found, r.show(r.max), why)
}

// show writes a number as the file would.
func (r *rule) show(i int64) string {
	switch r.kind {
	case kindDuration:
		return strconv.Quote(formatDuration(time.Duration(i)))
	case kindSize:
		return strconv.Quote(formatSize(i))
	case kindString, kindURL, kindInt, kindList, kindBool, kindTime:
	}
	return strconv.FormatInt(i, 10)
}

// allowed says what the key takes.
func (r *rule) allowed() string {
	switch r.kind {
	case kindString:
		if len(r.oneOf) > 0 {
			return "one of " + strings.Join(r.oneOf, ", ")
		}
		return "text in quotes"
	case kindURL:
		return "a URL in quotes"
	case kindInt:
		return "a whole number"
	case kindDuration:
		return `a duration such as "30s"`
	case kindSize:
		return `a size such as "3MiB"`
	case kindList:
		return `a list of strings such as ["a", "b"]`
	case kindBool:
		return "true or false"
	case kindTime:
		return "a date and time with its offset, such as 2026-03-01T22:00:00Z or 2026-03-01T22:00:00+01:00"
	}
	panic("config: a kind without words")
}

// store writes a value that fromNode or fromText returned to a field of the Config.
func store(field, value any) {
	switch f := field.(type) {
	case *string:
		*f = value.(string)
	case *check.TLSMode:
		*f = check.TLSMode(value.(string))
	case *int:
		*f = int(value.(int64))
	case *uint8:
		*f = uint8(value.(int64)) //nolint:gosec // the rule bounds it
	case *int32:
		*f = int32(value.(int64)) //nolint:gosec // the rule bounds it
	case *int64:
		*f = value.(int64)
	case *time.Duration:
		*f = value.(time.Duration)
	case *[]string:
		*f = value.([]string)
	case *bool:
		*f = value.(bool)
	case *time.Time:
		*f = value.(time.Time)
	case **bool:
		truth := value.(bool)
		*f = &truth
	default:
		panic(fmt.Sprintf("config: no way to store into a %T", field))
	}
}

// formatDuration writes a duration as people do: 1m, not 1m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits are the units that formatSize uses, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// formatSize writes a number of bytes exactly, in the largest unit that allows it.
func formatSize(bytes int64) string {
	for _, u := range sizeUnits {
		if bytes >= u.bytes && bytes%u.bytes == 0 {
			return strconv.FormatInt(bytes/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(bytes, 10)
}

// sizePattern is stricter than go-humanize, which takes "1,0m" as well.
var sizePattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB)?$`)

func parseSize(s string) (int64, string) {
	if !sizePattern.MatchString(s) {
		return 0, `want a size such as "3MiB": a number and KiB, MiB or GiB, or a plain number of bytes`
	}
	bytes, err := humanize.ParseBytes(s)
	if err != nil || bytes > math.MaxInt64 {
		return 0, "which is too large"
	}
	return int64(bytes), ""
}
