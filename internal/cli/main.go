// Package cli is the commands of the signalbox binary: flags -> configuration
// or admin API -> print. What they do is in other packages.
package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Exit codes: other people's scripts rely on them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, env *Environment, args []string) int {
	interruptible := *env
	interruptible.In = input{ctx, env.In}
	root := newRoot(&interruptible)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(env.Err, "signalbox: %s\n", strings.TrimRight(err.Error(), "\n"))
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// usageError is a command that was called wrongly.
type usageError struct{ error }

func (u *usageError) Unwrap() error { return u.error }

// errSilent ends with exit code 1 after everything has been said already.
var errSilent = errors.New("failed")
