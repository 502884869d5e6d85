package version

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	built := func(version string, settings ...string) *debug.BuildInfo {
		b := &debug.BuildInfo{Main: debug.Module{Version: version}}
		for i := 0; i < len(settings); i += 2 {
			b.Settings = append(b.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return b
	}
	const at = "2026-05-01T12:00:00Z"
	for _, row := range []struct {
		name  string
		build *debug.BuildInfo
		told  Info
		want  Info
	}{
		{"nothing is known", nil, Info{}, Info{Version: "dev"}},
		{"go run gives no version", built("(devel)"), Info{}, Info{Version: "dev"}},
		{"a clean checkout", built("v1.2.3", "vcs.revision", "abc", "vcs.time", at, "vcs.modified", "false"), Info{},
			Info{Version: "v1.2.3", Commit: "abc", Date: at}},
		{"a changed checkout, whatever the order", built("v1.2.3+dirty", "vcs.modified", "true", "vcs.revision", "abc", "vcs.time", at), Info{},
			Info{Version: "v1.2.3+dirty", Commit: "abc-dirty", Date: at}},
		{"the linker has the last word", built("v0.0.0", "vcs.revision", "abc"), Info{Version: "v9", Commit: "def", Date: at},
			Info{Version: "v9", Commit: "def", Date: at}},
		{"the linker says only the version", built("v0.0.0", "vcs.revision", "abc"), Info{Version: "v9"}, Info{Version: "v9", Commit: "abc"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.want.Go = runtime.Version()
			if got := of(row.build, row.told); got != row.want {
				t.Errorf("%+v, want %+v", got, row.want)
			}
		})
	}
}
