package sqldb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// The row of an ended grant goes with the memory of its end. A pending grant
// gives nothing after its code has expired.
const endGrants = `UPDATE grants SET state = 'ended', ended_at = $1, end_reason = $2,
	sweep_at = GREATEST(CASE state WHEN 'pending' THEN code_expires_at ELSE expires_at END, $1) + $3
	WHERE state <> 'ended' AND `

// What has ended without a row, evidence or a client's own grant, has its
// revocation only: a second end leaves it as it is.
const revokeOnce = `INSERT INTO revocations (kind, key, not_before, expires_at, seq)
	VALUES ($1, $2, $3, $4, nextval('revocation_seq')) ON CONFLICT (kind, key) DO NOTHING
	RETURNING seq, kind, key, not_before, expires_at`

// EndGrant implements authority.GrantStore.
func (db *DB) EndGrant(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	if id.IsZero() {
		return nil, errors.New("a grant without an id cannot be ended")
	}
	var written revocations
	err := db.transact(ctx, func(t tx) error {
		written = nil // by an attempt that was undone
		t.lock(lock{onGrant, id.String(), alone})
		rows, err := written.endGrants(t, e, `id = $4`, id.Bytes())
		if err != nil || rows > 0 {
			return err
		}
		// There is no row, or it had ended before, and then the revocation is there.
		return t.query(revokeOnce, revocationArgs(authority.Revocation{
			Kind: authority.RevokeGrant, Key: id.String(), NotBefore: e.At, ExpiresAt: e.At.Add(authority.MaxGrantTTL + e.Remember),
		}), written.add)
	})
	if err != nil {
		return nil, err
	}
	return written, nil
}

// EndEvidence implements authority.GrantStore.
func (db *DB) EndEvidence(ctx context.Context, evidence authority.Evidence, proofUntil time.Time, e authority.Ending) ([]authority.Revocation, error) {
	if err := canEnd(evidence); err != nil {
		return nil, err
	}
	var written revocations
	err := db.transact(ctx, func(t tx) error {
		written = nil
		t.lock(lock{onEvidence, evidenceName(evidence), alone})
		return written.endEvidence(t, evidence, proofUntil, e)
	})
	if err != nil {
		return nil, err
	}
	return written, nil
}

// EndSession implements authority.SessionStore.
func (db *DB) EndSession(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	evidence := authority.SessionEvidence(id)
	if err := canEnd(evidence); err != nil {
		return nil, err
	}
	var written revocations
	err := db.transact(ctx, func(t tx) error {
		written = nil
		t.lock(lock{onEvidence, evidenceName(evidence), alone})
		var expires int64 // none if the session is gone
		err := t.query(`DELETE FROM sessions WHERE id = $1 RETURNING expires_at`, []any{id.Bytes()}, func(r row) error { return r.Scan(&expires) })
		if err != nil {
			return err
		}
		return written.endEvidence(t, evidence, timeOf(expires), e)
	})
	if err != nil {
		return nil, err
	}
	return written, nil
}

// canEnd refuses evidence that no end could name.
func canEnd(e authority.Evidence) error {
	if e.Kind == "" || e.Key == "" {
		return fmt.Errorf("evidence %q of kind %q cannot be ended", e.Key, e.Kind)
	}
	return nil
}

func evidenceName(e authority.Evidence) string { return string(e.Kind) + " " + e.Key }

// revocations are what a transition has written.
type revocations []authority.Revocation

func (w *revocations) add(r row) error {
	v, err := scanRevocation(r)
	*w = append(*w, v)
	return err
}

// The partial index on evidence is only used where its condition is repeated.
const withEvidence = `evidence_kind <> '' AND evidence_kind = $%d AND evidence_key = $%d`

var grantsWithEvidence = `SELECT id FROM grants WHERE state <> 'ended' AND ` + fmt.Sprintf(withEvidence, 1, 2) + ` ORDER BY id`

// endEvidence ends what t has locked. Nobody is born with it any more; so its
// grants are known, and each is locked as if it ended alone: first by name and
// then by row, in the order in which everybody takes them.
func (w *revocations) endEvidence(t tx, evidence authority.Evidence, proofUntil time.Time, e authority.Ending) error {
	kindAndKey := []any{string(evidence.Kind), evidence.Key}
	var grants []lock
	err := t.query(grantsWithEvidence, kindAndKey, func(r row) error {
		var b []byte
		if err := r.Scan(&b); err != nil {
			return err
		}
		id, err := authority.IDFromBytes(b)
		grants = append(grants, lock{onGrant, id.String(), alone})
		return err
	})
	if err != nil {
		return err
	}
	if len(grants) > 0 {
		t.lock(grants...)
		if err := t.query(grantsWithEvidence+` FOR UPDATE`, kindAndKey, func(row) error { return nil }); err != nil {
			return err
		}
		if _, err := w.endGrants(t, e, fmt.Sprintf(withEvidence, 4, 5), kindAndKey...); err != nil {
			return err
		}
	}
	until := e.At
	if proofUntil.After(until) {
		until = proofUntil
	}
	return t.query(revokeOnce, revocationArgs(authority.Revocation{
		Kind: evidence.Link().Kind, Key: evidence.Key, NotBefore: e.At, ExpiresAt: until.Add(e.Remember),
	}), w.add)
}

// endGrants ends the rows that `which` selects, and writes one revocation for each.
func (w *revocations) endGrants(t tx, e authority.Ending, which string, args ...any) (rows int, err error) {
	var dead [][]any
	err = t.query(endGrants+which+` RETURNING id, sweep_at`, append([]any{micros(e.At), e.Reason, e.Remember.Microseconds()}, args...), func(r row) error {
		var b []byte
		var until int64
		if err := r.Scan(&b, &until); err != nil {
			return err
		}
		id, err := authority.IDFromBytes(b)
		dead = append(dead, revocationArgs(authority.Revocation{Kind: authority.RevokeGrant, Key: id.String(), NotBefore: e.At, ExpiresAt: timeOf(until)}))
		return err
	})
	if err != nil || len(dead) == 0 {
		return 0, err
	}
	slices.SortFunc(dead, func(a, b []any) int { return strings.Compare(a[1].(string), b[1].(string)) })
	return len(dead), t.forEach(revokeForGood, dead, w.add)
}
