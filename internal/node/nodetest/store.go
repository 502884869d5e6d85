package nodetest

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/node"
)

// store is the database, with failures on demand and tests that listen.
type store struct {
	node.Store
	rig *Rig
}

func (r *Rig) signedIn(s authority.Session) func() { return func() { r.sessions[s.ID] = s } }

func do(r *Rig, method string, call func() error, note ...func()) error {
	_, err := ask(r, method, func() (struct{}, error) { return struct{}{}, call() }, note...)
	return err
}

// ask makes a call as the test wants it. What has happened is noted under the lock.
func ask[T any](r *Rig, method string, call func() (T, error), note ...func()) (T, error) {
	r.mu.Lock()
	before, after, err := r.before, r.after, r.failing[method]
	r.mu.Unlock()
	if before != nil {
		before(method)
	}
	var answer T
	if err == nil {
		answer, err = call()
	}
	if err == nil {
		r.mu.Lock()
		for _, n := range note {
			n()
		}
		r.mu.Unlock()
	}
	if err == nil && after != nil {
		after(method)
	}
	return answer, err
}

func (s *store) CreateGrant(ctx context.Context, g authority.Grant) error {
	return do(s.rig, "CreateGrant", func() error { return s.Store.CreateGrant(ctx, g) })
}

func (s *store) Grant(ctx context.Context, id authority.ID) (authority.Grant, error) {
	return ask(s.rig, "Grant", func() (authority.Grant, error) { return s.Store.Grant(ctx, id) })
}

func (s *store) RedeemCode(ctx context.Context, id authority.ID, codeHash [32]byte, refresh authority.Refresh, expiresAt, now time.Time) error {
	return do(s.rig, "RedeemCode", func() error { return s.Store.RedeemCode(ctx, id, codeHash, refresh, expiresAt, now) })
}

func (s *store) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	return do(s.rig, "RotateRefresh", func() error { return s.Store.RotateRefresh(ctx, id, from, to) })
}

func (s *store) EndGrant(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	return ask(s.rig, "EndGrant", func() ([]authority.Revocation, error) { return s.Store.EndGrant(ctx, id, e) })
}

func (s *store) Consented(ctx context.Context, g authority.Grant, since, now time.Time) (bool, error) {
	return ask(s.rig, "Consented", func() (bool, error) { return s.Store.Consented(ctx, g, since, now) })
}

func (s *store) StartSession(ctx context.Context, started authority.Session) error {
	return do(s.rig, "StartSession", func() error { return s.Store.StartSession(ctx, started) }, s.rig.signedIn(started))
}

func (s *store) SessionByHash(ctx context.Context, hash [32]byte) (authority.Session, error) {
	return ask(s.rig, "SessionByHash", func() (authority.Session, error) { return s.Store.SessionByHash(ctx, hash) })
}

func (s *store) RenewSession(ctx context.Context, hash [32]byte, next authority.Session) error {
	return do(s.rig, "RenewSession", func() error { return s.Store.RenewSession(ctx, hash, next) }, s.rig.signedIn(next))
}

func (s *store) Session(ctx context.Context, id authority.ID) (authority.Session, error) {
	return ask(s.rig, "Session", func() (authority.Session, error) { return s.Store.Session(ctx, id) })
}

func (s *store) EndSession(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	return ask(s.rig, "EndSession", func() ([]authority.Revocation, error) { return s.Store.EndSession(ctx, id, e) }, func() { delete(s.rig.sessions, id) })
}

func (s *store) TakeTicket(ctx context.Context, t authority.Ticket) error {
	return do(s.rig, "TakeTicket", func() error { return s.Store.TakeTicket(ctx, t) })
}

func (s *store) Revoke(ctx context.Context, r authority.Revocation) (authority.Revocation, error) {
	return ask(s.rig, "Revoke", func() (authority.Revocation, error) { return s.Store.Revoke(ctx, r) })
}

func (s *store) Object(ctx context.Context, kind authority.Kind, id string) (authority.Object, error) {
	return ask(s.rig, "Object", func() (authority.Object, error) { return s.Store.Object(ctx, kind, id) })
}

func (s *store) ObjectByName(ctx context.Context, kind authority.Kind, name string) (authority.Object, error) {
	return ask(s.rig, "ObjectByName", func() (authority.Object, error) { return s.Store.ObjectByName(ctx, kind, name) })
}

func (s *store) CreateObject(ctx context.Context, o authority.Object) error {
	return do(s.rig, "CreateObject", func() error { return s.Store.CreateObject(ctx, o) })
}

func (s *store) UpdateObject(ctx context.Context, o authority.Object) error {
	return do(s.rig, "UpdateObject", func() error { return s.Store.UpdateObject(ctx, o) })
}

func (s *store) DeleteObject(ctx context.Context, kind authority.Kind, id string, revision int64, at time.Time) error {
	return do(s.rig, "DeleteObject", func() error { return s.Store.DeleteObject(ctx, kind, id, revision, at) })
}
