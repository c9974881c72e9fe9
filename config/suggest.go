package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
)

// hint follows "unknown key": the nearest known key, else where a key of that name stands, else all
// that the table knows.
func (s *spec[T]) hint(name, table string) string {
	if near := nearest(name, s.tables[table]); near != "" {
		return "; did you mean " + strconv.Quote(near) + "?"
	}
	var elsewhere []string
	for i := range s.keys {
		if k := &s.keys[i]; !k.later && strings.HasSuffix(k.name, "."+name) {
			elsewhere = append(elsewhere, strconv.Quote(k.name))
		}
	}
	if len(elsewhere) > 0 {
		return "; did you mean " + strings.Join(elsewhere, " or ") + "?"
	}
	known := make([]string, 0, len(s.tables[table]))
	for _, k := range s.tables[table] {
		if full := s.byName[join(table, k)]; full == nil || !full.later {
			known = append(known, k)
		}
	}
	return "; known here: " + strings.Join(known, ", ")
}

// suggestText names the nearest of the allowed values, if one is near.
func suggestText(s string, allowed []string) string {
	if near := nearest(s, allowed); near != "" {
		return "; did you mean " + strconv.Quote(near) + "?"
	}
	return ""
}

// nearest returns the candidate with the fewest slips to the name, "" if all have too many. A slip is a
// letter too many, too few or wrong, or two neighbours swapped.
func nearest(name string, candidates []string) string {
	// Nobody mistypes that much, and the cost grows with the length.
	const tooLong = 64
	if len(name) > tooLong {
		return ""
	}
	name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	best, distance := "", max(1, len(name)/3)+1
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := slips(name, strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// slips returns the edits from a to b, of which one may be a swap of neighbours.
func slips(a, b string) int {
	least := levenshtein.ComputeDistance(a, b)
	letters := []rune(a)
	for i := 1; i < len(letters) && least > 1; i++ {
		letters[i-1], letters[i] = letters[i], letters[i-1]
		least = min(least, 1+levenshtein.ComputeDistance(string(letters), b))
		letters[i-1], letters[i] = letters[i], letters[i-1]
	}
	return least
}
