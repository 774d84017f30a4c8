package buildinfo

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	main := func(version string) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: module, Version: version}}
	}
	dependency := func(m debug.Module) *debug.BuildInfo {
		m.Path = module
		return &debug.BuildInfo{
			Main: debug.Module{Path: "caddy", Version: "(devel)"},
			Deps: []*debug.Module{{Path: "github.com/caddyserver/caddy/v2", Version: "v2.11.9"}, &m},
		}
	}
	for _, tt := range []struct {
		name, linked string
		build        *debug.BuildInfo
		want         string
	}{
		{"go install of a release", "", main("v1.2.3"), "v1.2.3"},
		{"go build in a clone", "", main("v0.0.0-20261130074450-827cd3f8a1b2+dirty"), "v0.0.0-20261130074450-827cd3f8a1b2+dirty"},
		{"go build without history", "", main("(devel)"), "devel"},
		{"the image, which is told", "v1.2.3", main("(devel)"), "v1.2.3"},
		{"xcaddy with a release", "", dependency(debug.Module{Version: "v1.2.3"}), "v1.2.3"},
		{"xcaddy with a folder: its version is a placeholder", "", dependency(debug.Module{Version: "v0.0.0", Replace: &debug.Module{Path: "/src"}}), "devel"},
		{"xcaddy with a fork", "", dependency(debug.Module{Version: "v1.2.3", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.2.4"}}), "v1.2.4"},
		{"xcaddy that is told", "v1.2.3", dependency(debug.Module{Version: "v0.0.0", Replace: &debug.Module{Path: "/src"}}), "v1.2.3"},
		{"a build that nothing is known of", "", nil, "devel"},
	} {
		if got := version(tt.linked, tt.build); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
