// Command signalbox is the whole service and its tools in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/signalbox-sts/signalbox/internal/cli"
)

func main() {
	if os.Getenv("GOGC") == "" {
		// The live heap is a few MiB: collecting half as often costs little
		// memory and gives some of every request's time back.
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// One more than the cores: the journal's writer is nearly always in a system
		// call, and keeps a share of the scheduler from those who could run meanwhile.
		// Measured: docs/decisions/0019-one-more-than-the-cores.md.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := &cli.Environment{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
		ConfigDir: os.UserConfigDir, CacheDir: os.UserCacheDir, OpenURL: cli.OpenURL,
	}
	os.Exit(cli.Run(ctx, env, os.Args[1:]))
}
