package sqldb

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// StartSession implements authority.SessionStore. ErrExists for an id or a
// hash that is taken.
func (db *DB) StartSession(ctx context.Context, s authority.Session) error {
	rows, err := db.writeOne(ctx, string(s.ID.Bytes()), `INSERT INTO sessions
		(id, hash, subject_issuer, subject_id, subject_kind, auth_time, amr, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		s.ID.Bytes(), s.Hash[:], s.Subject.Issuer, s.Subject.ID, string(s.Subject.Kind), micros(s.AuthTime), listArg(s.AMR), micros(s.ExpiresAt))
	if err == nil && rows == 0 {
		return authority.ErrExists
	}
	return err
}

// SessionByHash implements authority.SessionStore.
func (db *DB) SessionByHash(ctx context.Context, hash [32]byte) (s authority.Session, err error) {
	err = db.one(ctx, func(r row) (err error) {
		s, err = scanSession(r)
		return err
	}, `SELECT id, hash, subject_issuer, subject_id, subject_kind, auth_time, amr, expires_at FROM sessions WHERE hash = $1`, hash[:])
	return s, err
}

// RenewSession implements authority.SessionStore.
func (db *DB) RenewSession(ctx context.Context, hash [32]byte, next authority.Session) error {
	rows, err := db.writeOne(ctx, string(next.ID.Bytes()), `UPDATE sessions SET hash = $3, auth_time = $4, amr = $5, expires_at = $6
		WHERE id = $1 AND hash = $2`,
		next.ID.Bytes(), hash[:], next.Hash[:], micros(next.AuthTime), listArg(next.AMR), micros(next.ExpiresAt))
	if err == nil && rows == 0 {
		return authority.ErrNotFound
	}
	return err
}

// EndSession implements authority.SessionStore.
func (db *DB) EndSession(ctx context.Context, id authority.ID, at, deadUntil time.Time) (ended authority.Revocation, err error) {
	err = db.transact(ctx, func(t tx) error {
		rows, err := t.exec(`DELETE FROM sessions WHERE id = $1`, id.Bytes())
		if err != nil {
			return err
		}
		if rows == 0 {
			return authority.ErrNotFound
		}
		args := revocationArgs(authority.Revocation{Kind: authority.RevokeSession, Key: id.String(), NotBefore: at, ExpiresAt: deadUntil})
		scan := func(r row) (err error) {
			ended, err = scanRevocation(r)
			return err
		}
		if err := t.query(revokeForGood, args, scan); err != nil {
			return err
		}
		// Somebody may have revoked the id for longer, apart from the session.
		return t.query(revocationByKey, args[:2], scan)
	})
	if err != nil {
		return authority.Revocation{}, err
	}
	return ended, nil
}

func scanSession(r row) (s authority.Session, err error) {
	var id, hash []byte
	var kind, amr string
	var authTime, expires int64
	if err := r.Scan(&id, &hash, &s.Subject.Issuer, &s.Subject.ID, &kind, &authTime, &amr, &expires); err != nil {
		return s, err
	}
	if s.ID, err = idOf(id); err != nil {
		return s, fmt.Errorf("sessions.id: %w", err)
	}
	if s.Hash, err = hashOf(hash); err != nil {
		return s, fmt.Errorf("sessions.hash: %w", err)
	}
	if s.AMR, err = listOf(amr); err != nil {
		return s, fmt.Errorf("sessions.amr: %w", err)
	}
	s.Subject.Kind = authority.SubjectKind(kind)
	s.AuthTime, s.ExpiresAt = timeOf(authTime), timeOf(expires)
	return s, nil
}

// TakeTicket implements authority.TicketStore.
func (db *DB) TakeTicket(ctx context.Context, t authority.Ticket) error {
	rows, err := db.writeOne(ctx, string(t.Hash[:]), `INSERT INTO tickets (kind, hash, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		string(t.Kind), t.Hash[:], micros(t.ExpiresAt))
	if err == nil && rows == 0 {
		return authority.ErrSpent
	}
	return err
}
