//go:build !linux

package agent

import "runtime/debug"

func trim() { debug.FreeOSMemory() }
