// Package buildinfo tells which version of scopegate was built.
package buildinfo

import "runtime/debug"

const module = "github.com/scopegate/scopegate"

// Version is the version of this module as the build recorded it: as the main
// module of our own binary, or as a dependency of another main package, such
// as one that xcaddy makes.
func Version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(build.Deps, &build.Main) {
		if m.Path == module && m.Version != "" {
			return m.Version
		}
	}
	return "(devel)"
}
