package cli

import "io"

// Environment is what a command sees of the process that it runs in, so that
// tests can run commands without one.
type Environment struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}
