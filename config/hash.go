package config

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// Hash is the same for configurations that are the same in all that they say, wherever that is written, and else
// another one. It changes with the version of the poller, too.
func (c *Config) Hash() (sum [sha256.Size]byte) {
	h := sha256.New()
	out := json.NewEncoder(h)
	rest := *c
	rest.Agents = nil
	write := func(v any) {
		if err := out.Encode(v); err != nil {
			panic(fmt.Sprintf("config: no way to hash %T: %v", v, err)) // it is plain data
		}
	}
	write(rest)
	for _, agent := range c.Agents { // one by one, or all of it would be in memory at once
		write(agent)
	}
	return [sha256.Size]byte(h.Sum(sum[:0]))
}
