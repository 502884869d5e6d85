package cli

import (
	"io"
	"net/http"
	"time"
)

// Environment is what a command sees of the process that it runs in, so that
// tests can run commands without one.
type Environment struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Now      func() time.Time // nil means time.Now
	// ConfigDir and CacheDir are a user's folders, such as ~/.config and ~/.cache.
	// nil means that there are none.
	ConfigDir, CacheDir func() (string, error)
	// OpenURL shows a page to the person. nil means that there is no browser.
	OpenURL func(url string) error

	issuer *http.Client // nil means the usual one
}

func (e *Environment) now() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}
