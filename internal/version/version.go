// Package version says which build this is.
package version

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
)

// Info names a build.
type Info struct {
	Version string `json:"version"`          // of the module, "dev" where nobody gave it one
	Commit  string `json:"commit,omitempty"` // of the source; "-dirty" behind it where the source was changed
	Date    string `json:"date,omitempty"`   // of that commit, RFC 3339
	Go      string `json:"go"`
}

// String is the version with where it comes from, on one line.
func (i Info) String() string {
	parts := []string{i.Go}
	if i.Commit != "" {
		parts = []string{"commit " + i.Commit, i.Date, i.Go}
	}
	return i.Version + " (" + strings.Join(parts, ", ") + ")"
}

// What the Go toolchain notes in the binary comes from the repository that it
// was built in. Who builds from an archive sets these instead:
//
//	go build -ldflags '-X github.com/signalbox-sts/signalbox/internal/version.version=v1.2.3 …'
var version, commit, date string

// Get reads what the toolchain and the linker have noted.
func Get() Info {
	build, _ := debug.ReadBuildInfo()
	return of(build, Info{Version: version, Commit: commit, Date: date})
}

// of completes what the linker was told with what the toolchain knows.
func of(build *debug.BuildInfo, told Info) Info {
	var known Info
	if build != nil {
		if v := build.Main.Version; v != "(devel)" {
			known.Version = v
		}
		dirty := ""
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				known.Commit = s.Value
			case "vcs.time":
				known.Date = s.Value
			case "vcs.modified":
				if s.Value == "true" {
					dirty = "-dirty"
				}
			}
		}
		if known.Commit != "" {
			known.Commit += dirty
		}
	}
	return Info{
		Version: cmp.Or(told.Version, known.Version, "dev"), Commit: cmp.Or(told.Commit, known.Commit),
		Date: cmp.Or(told.Date, known.Date), Go: runtime.Version(),
	}
}
