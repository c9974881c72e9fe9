package machine

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Node is a member as far as it counts for who owns what.
type Node struct {
	// Name is unique among the members.
	Name string
	// Weight is its share of the agents relative to others', in thousandths; with 0 it gets none.
	Weight int
	// Pinnable says that agents may be pinned to it: it knows of Pins. Owners does not ask for it.
	Pinnable bool
}

// Owners returns for each agent which of the members owns it, as its index, or -1 if none may. An agent goes only to members of a weight
// above 0 that know it, which knows tells of the indices of a member and an agent; nil means that all know all.
//
// It is a function of the names and weights, and of what is known: the order in which members and agents are given does not matter, so all
// nodes that see the same members come to the same. (Processors of different kinds may compute logarithms that differ in the last of
// 53 bits; what goes by that is once in some 10^15 agents.)
//
// Each pair of a member and an agent has a score that is random but for the weight: weighted rendezvous hashing. By that alone an agent
// would move only from who leaves or to who joins, but shares would be uneven by chance: of 1,000 agents one of nine nodes would have 80
// or 150. So each member has just as much room as its share comes to, rounded down or up. The agents choose, in an order that is random,
// too, but always the same, the member that scores best for them of those that have room; so the shares are even, and some agents move
// between members that stay: of 1,000 agents 16 when one of nine nodes leaves. With more room than the share fewer would, but who comes
// off badly by chance stays so: with 1 % more, one of nine nodes had 14 % less than its share. If none of those that know an agent has
// room, the best of them has it anyway.
func Owners(members []Node, agents []string, knows func(member, agent int) bool) []int {
	room := shares(members, len(agents))
	hashes := make([]uint64, len(members))
	for i := range members {
		hashes[i] = hashName(members[i].Name)
	}
	owners := make([]int, len(agents))
	for _, a := range inTurn(agents) {
		best, roomy := choice{member: -1}, choice{member: -1}
		for i := range members {
			if members[i].Weight <= 0 || knows != nil && !knows(i, a.agent) {
				continue
			}
			c := choice{member: i, score: score(members[i].Weight, mix(hashes[i]^a.hash))}
			best = best.or(c, members)
			if room[i] > 0 {
				roomy = roomy.or(c, members)
			}
		}
		if roomy.member >= 0 {
			best = roomy
			room[best.member]--
		}
		owners[a.agent] = best.member
	}
	return owners
}

// choice is a member that may have an agent; -1 is none.
type choice struct {
	member int
	score  float64
}

// or returns the better of two; that is never none if one is a member.
func (c choice) or(other choice, members []Node) choice {
	switch {
	case c.member < 0 || other.score > c.score:
		return other
	case other.score == c.score && members[other.member].Name < members[c.member].Name:
		return other
	}
	return c
}

// score is greater than another's with a probability that goes by the weights, if the hashes are random.
func score(weight int, hash uint64) float64 {
	uniform := (float64(hash>>12) + 0.5) * 0x1p-52 // above 0 and below 1, exactly
	return float64(weight) / -math.Log(uniform)
}

// shares returns how many of the agents are for each member. What is left when all shares are rounded down is for those that lost most by
// it, one each; of equals, for those whose names have the lower hash.
func shares(members []Node, agents int) []int {
	total := 0
	for i := range members {
		total += max(0, members[i].Weight)
	}
	out := make([]int, len(members))
	if total == 0 {
		return out
	}
	type rest struct {
		member, lost int
		hash         uint64
	}
	rests := make([]rest, len(members))
	left := agents
	for i := range members {
		due := agents * max(0, members[i].Weight)
		out[i] = due / total
		left -= out[i]
		rests[i] = rest{member: i, lost: due % total, hash: hashName(members[i].Name)}
	}
	slices.SortFunc(rests, func(a, b rest) int {
		return cmp.Or(cmp.Compare(b.lost, a.lost), cmp.Compare(a.hash, b.hash), strings.Compare(members[a.member].Name, members[b.member].Name))
	})
	for _, r := range rests[:left] { // fewer than have lost something
		out[r.member]++
	}
	return out
}

// chooser is an agent, as its index, and the hash of its name.
type chooser struct {
	agent int
	hash  uint64
}

// inTurn returns the agents in the order in which they choose.
func inTurn(agents []string) []chooser {
	out := make([]chooser, len(agents))
	for i, name := range agents {
		out[i] = chooser{agent: i, hash: hashName(name)}
	}
	slices.SortFunc(out, func(a, b chooser) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), strings.Compare(agents[a.agent], agents[b.agent]))
	})
	return out
}

// hashName is FNV-1a of 64 bits, mixed: of names that differ in their last letter it alone differs in few bits.
func hashName(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h ^= uint64(name[i])
		h *= 1099511628211
	}
	return mix(h)
}

// mix makes each bit depend on all, one to one: what Murmur's third version ends with.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h
}
