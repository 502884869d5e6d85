package sqldb

import (
	"context"
	"fmt"

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

const selectSession = `SELECT id, hash, subject_issuer, subject_id, subject_kind, auth_time, amr, expires_at FROM sessions WHERE `

// SessionByHash implements authority.SessionStore.
func (db *DB) SessionByHash(ctx context.Context, hash [32]byte) (s authority.Session, err error) {
	err = db.one(ctx, func(r row) (err error) {
		s, err = scanSession(r)
		return err
	}, selectSession+`hash = $1`, hash[:])
	return s, err
}

// Session implements authority.SessionStore.
func (db *DB) Session(ctx context.Context, id authority.ID) (s authority.Session, err error) {
	err = db.one(ctx, func(r row) (err error) {
		s, err = scanSession(r)
		return err
	}, selectSession+`id = $1`, id.Bytes())
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
