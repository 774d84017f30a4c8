// Package buildinfo tells which version of scopegate was built.
package buildinfo

import "runtime/debug"

const module = "github.com/scopegate/scopegate"

// linked is the version that the build was told. The image is built from files
// without their history, so that Go cannot know it:
//
//	go build -ldflags "-X github.com/scopegate/scopegate/buildinfo.linked=v1.2.3" ./cmd/scopegate
var linked string

// Version is the version that the build was told or else, as Go recorded it, that
// of this module: as the main module of our own binary, or as a dependency of
// another main package, such as one that xcaddy makes. Where neither is known it
// is "devel", a word that a User-Agent can carry as it is.
func Version() string {
	build, _ := debug.ReadBuildInfo()
	return version(linked, build)
}

func version(linked string, build *debug.BuildInfo) string {
	if linked != "" {
		return linked
	}
	if build != nil {
		if v := recorded(&build.Main); v != "" {
			return v
		}
		for _, m := range build.Deps {
			if v := recorded(m); v != "" {
				return v
			}
		}
	}
	return "devel"
}

// recorded is the version of the module if it is this one and has any. One that
// is replaced by a folder has a placeholder for its own.
func recorded(m *debug.Module) string {
	if m.Path != module {
		return ""
	}
	if m.Replace != nil {
		m = m.Replace
	}
	if m.Version == "(devel)" {
		return ""
	}
	return m.Version
}
