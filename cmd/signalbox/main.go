// Command signalbox is the whole service and its tools in one binary. This
// package turns flags into configuration, configuration into wired parts, and
// runs them; what they do stands in internal/.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

// version is set by the linker.
var version = "dev"

func main() {
	if os.Getenv("GOGC") == "" {
		// The live heap is a few MiB: collecting half as often costs little
		// memory and gives some of every request's time back.
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// One more than the cores: somebody is nearly always waiting for the disk
		// in a system call, and would keep a core's share from the others.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := &environment{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}
	os.Exit(run(ctx, env, os.Args[1:]))
}

// Exit codes: other people's scripts rely on them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func run(ctx context.Context, env *environment, args []string) int {
	interruptible := *env
	interruptible.In = input{ctx, env.In}
	root := newRoot(&interruptible)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(env.Err, "signalbox: %v\n", err)
		return exitUsage
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(env.Err, "signalbox: %v\n", err)
	}
	return exitFailed
}

// usageError is a command that was called wrongly.
type usageError struct{ error }

func (u *usageError) Unwrap() error { return u.error }

// errSilent ends with exit code 1 after everything has been said already.
var errSilent = errors.New("failed")
