//go:build linux

package main

import (
	"context"
	"errors"
)

// seedGrants fills the stopped service's database with count standing grants,
// each of its own subject, of the client that refreshes. The rows must be what
// the service itself would have written, so it goes through the service's store.
func seedGrants(_ context.Context, _ /* storage.url */, _ /* issuer */ string, _ int) error {
	return errors.New("not available: the store has no seeding yet")
}
