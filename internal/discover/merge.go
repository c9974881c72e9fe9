package discover

import "fmt"

// listed are the targets that a document lists.
type listed struct {
	from    string
	targets []Target
}

// merge joins the lists of a source in their order. Each address and each name are in the result once; what had to
// give way is told in a sentence, empty if nothing had to.
func merge(lists []listed) (merged []Target, warning string) {
	size := 0
	for i := range lists {
		size += len(lists[i].targets)
	}
	firstIn := make(map[string]string, size) // by address
	merged = make([]Target, 0, size)
	var odd tally
	for _, l := range lists {
		for _, t := range l.targets {
			if first, twice := firstIn[t.Address]; twice {
				odd.add("target %s in %s is there already, in %s, and only that counts", t.Address, l.from, first)
				continue
			}
			firstIn[t.Address] = l.from
			merged = append(merged, t)
		}
	}
	named := make(map[string]struct{}, len(merged))
	for i := range merged {
		t := &merged[i]
		if t.Name == t.Address {
			continue
		}
		_, taken := named[t.Name]
		if _, isAddress := firstIn[t.Name]; taken || isAddress {
			odd.add("target %s in %s goes by its address, because another one has its name %q", t.Address, firstIn[t.Address], t.Name)
			t.Name = t.Address
			continue
		}
		named[t.Name] = struct{}{}
	}
	return merged, odd.String()
}

// tally counts oddities, and keeps the first in full.
type tally struct {
	count int
	first string
}

func (o *tally) add(format string, args ...any) {
	if o.count++; o.count == 1 {
		o.first = fmt.Sprintf(format, args...)
	}
}

func (o *tally) String() string {
	if o.count > 1 {
		return fmt.Sprintf("%s; %d more give way like that", o.first, o.count-1)
	}
	return o.first
}
