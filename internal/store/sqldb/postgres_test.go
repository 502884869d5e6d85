package sqldb

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
)

// The server's table of locks has room for some thousands, and two
// transitions that take locks in different orders wait for each other.
func TestPostgresLocksAreFewAndInOrder(t *testing.T) {
	locks := []lock{{onEvidence, "pod cluster/uid", shared}, {onPending, "session client", alone}}
	for i := range 100_000 {
		locks = append(locks, lock{onGrant, fmt.Sprint("grant ", i), alone})
	}
	slices.Reverse(locks)
	transaction := &postgresTx{}
	transaction.lock(locks...)
	if n := len(transaction.locks); n > postgresGrantLocks+2 {
		t.Errorf("%d locks", n)
	}
	if first := transaction.locks[0]; first.on != onEvidence || first.mode != shared {
		t.Errorf("the first lock is %+v", first)
	}
	if !slices.IsSortedFunc(transaction.locks, func(a, b advisory) int { return cmp.Or(cmp.Compare(a.on, b.on), cmp.Compare(a.number, b.number)) }) {
		t.Error("the locks are not in order")
	}
}
