package observe

import (
	"cmp"
	"runtime/debug"
)

// Build tells what the Go toolchain wrote into the binary: the version of the main module, and the revision it was built
// from, which is empty if that is not known.
func Build() (version, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknownVersion, ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return cmp.Or(info.Main.Version, unknownVersion), revision
}

const unknownVersion = "unknown"
