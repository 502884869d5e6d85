package authority

import (
	"context"
	"time"
)

// settleTimeout is longer than the storage lets a caller wait, and shorter
// than the server waits for an answer.
const settleTimeout = 30 * time.Second

// Settle gives the context for a change of state and its record: a caller who
// hangs up in between must not leave a change that the journal never saw.
func Settle(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
}
