//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/signalbox-sts/signalbox/bench/load"
)

const flooders = 400

// flood measures the peak of resident memory while many connections send large
// bodies that never end. Each shape meets a server of its own.
func (b *bench) flood(ctx context.Context) (facts []fact, err error) {
	for i, body := range load.Floods {
		fmt.Fprintf(os.Stderr, "flood: %d connections with %s\n", flooders, body.Name)
		e, err := b.newEnv(fmt.Sprintf("flood-%d", i))
		if err != nil {
			return nil, err
		}
		e.storage = "sqlite:" + filepath.Join(e.dir, "signalbox.db")
		if err := e.writeConfig(); err != nil {
			return nil, err
		}
		if err := b.serve(ctx, e); err != nil {
			return nil, err
		}
		held, cancel := context.WithTimeout(ctx, load.HoldFor)
		load.Flood(held, e.addr, flooders, body)
		cancel()
		mem, err := e.proc.Memory()
		if err := errors.Join(err, e.proc.Stop()); err != nil {
			return nil, err
		}
		facts = append(facts, fact{fmt.Sprintf("peak memory, %d connections × %s", flooders, body.Name), "MiB", []float64{mib(mem.Peak)}, 128})
	}
	return facts, nil
}
