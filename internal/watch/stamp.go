package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Stamp returns a text that is another when one of these files, or of those that patterns match, was changed since, as
// far as their sizes and times tell; it says no more. Links are followed. It costs a system call for each file.
func Stamp(files, patterns []string) string {
	var stamp strings.Builder
	add := func(name string) {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&stamp, "%q: %v\n", name, err)
			return
		}
		fmt.Fprintf(&stamp, "%q: %d %d %v\n", name, info.Size(), info.ModTime().UnixNano(), info.Mode())
	}
	for _, name := range files {
		add(name)
	}
	for _, pattern := range patterns {
		matches, _ := filepath.Glob(pattern) // a pattern that is wrong matches nothing
		for _, name := range matches {
			add(name)
		}
	}
	return stamp.String()
}
