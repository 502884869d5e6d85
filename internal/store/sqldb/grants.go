package sqldb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const grantColumns = `id, parent, client_id, subject_issuer, subject_id, subject_kind, scopes, resources,
	sender_key, session_id, auth_time, amr, nonce, code_hash, code_challenge, code_redirect_uri, code_expires_at,
	refresh_generation, refresh_hash, refresh_rotated_at, refresh_idle_expires_at,
	state, created_at, expires_at, ended_at, end_reason`

const grantValues = `$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28`

const insertGrant = `INSERT INTO grants (` + grantColumns + `, outlives_session, sweep_at)
	VALUES (` + grantValues + `) ON CONFLICT DO NOTHING`

// The lock on the parent makes the birth of a child and the end of its parent
// take turns (see endGrants). Whoever waits here sees the parent as it is
// after the wait. The casts tell PostgreSQL what a bare SELECT does not.
var insertChild = `INSERT INTO grants (` + grantColumns + `, outlives_session, sweep_at)
	SELECT ` + grantValues + ` FROM (SELECT id FROM grants WHERE id = $2 AND state = 'active' FOR SHARE) AS parent
	WHERE true ON CONFLICT DO NOTHING`

// CreateGrant implements authority.GrantStore.
func (db *DB) CreateGrant(ctx context.Context, g authority.Grant) error {
	sweepAt := g.ExpiresAt
	if g.State == authority.GrantPending {
		sweepAt = g.Code.ExpiresAt
	}
	args := []any{
		g.ID.Bytes(), idArg(g.Parent), g.ClientID, g.Subject.Issuer, g.Subject.ID, string(g.Subject.Kind),
		g.Scopes.String(), listArg(g.Resources), g.SenderKey, idArg(g.SessionID), micros(g.AuthTime), listArg(g.AMR),
		[]byte(g.Nonce), hashArg(g.Code.Hash), g.Code.Challenge.String(), g.Code.RedirectURI, micros(g.Code.ExpiresAt),
		int64(g.Refresh.Generation), hashArg(g.Refresh.Hash), micros(g.Refresh.RotatedAt), micros(g.Refresh.IdleExpiresAt),
		string(g.State), micros(g.CreatedAt), micros(g.ExpiresAt), micros(g.EndedAt), g.EndReason,
		g.Outlives(), micros(sweepAt),
	}
	statement, key := insertGrant, g.ID
	if !g.Parent.IsZero() {
		statement, key = insertChild, g.Parent
	}
	rows, err := db.writeOne(ctx, string(key.Bytes()), statement, args...)
	if err != nil || rows == 1 {
		return err
	}
	if g.Parent.IsZero() {
		return authority.ErrExists
	}
	var taken int
	count := func(r row) error { return r.Scan(&taken) }
	if err := db.one(ctx, count, `SELECT count(*) FROM grants WHERE id = $1`, g.ID.Bytes()); err != nil {
		return err
	}
	if taken > 0 {
		return authority.ErrExists
	}
	return authority.ErrEnded
}

// Grant implements authority.GrantStore.
func (db *DB) Grant(ctx context.Context, id authority.ID) (g authority.Grant, err error) {
	err = db.one(ctx, func(r row) (err error) {
		g, err = scanGrant(r)
		return err
	}, `SELECT `+grantColumns+` FROM grants WHERE id = $1`, id.Bytes())
	return g, err
}

const redeemCode = `UPDATE grants
	SET state = 'active', refresh_generation = $4, refresh_hash = $5, refresh_rotated_at = $6,
	    refresh_idle_expires_at = $7, expires_at = $8, sweep_at = $8
	WHERE id = $1 AND state = 'pending' AND code_hash = $2 AND code_expires_at > $3`

// RedeemCode implements authority.GrantStore.
func (db *DB) RedeemCode(ctx context.Context, id authority.ID, codeHash [32]byte, refresh authority.Refresh, expiresAt, now time.Time) error {
	rows, err := db.writeOne(ctx, string(id.Bytes()), redeemCode, id.Bytes(), hashArg(codeHash), micros(now),
		int64(refresh.Generation), hashArg(refresh.Hash), micros(refresh.RotatedAt), micros(refresh.IdleExpiresAt), micros(expiresAt))
	if err == nil && rows == 0 {
		return authority.ErrSpent
	}
	return err
}

const rotateRefresh = `UPDATE grants
	SET refresh_generation = $4, refresh_hash = $5, refresh_rotated_at = $6, refresh_idle_expires_at = $7
	WHERE id = $1 AND refresh_generation = $2 AND refresh_hash = $3 AND state = 'active'`

// RotateRefresh implements authority.GrantStore.
func (db *DB) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	rows, err := db.writeOne(ctx, string(id.Bytes()), rotateRefresh, id.Bytes(), int64(from.Generation), hashArg(from.Hash),
		int64(to.Generation), hashArg(to.Hash), micros(to.RotatedAt), micros(to.IdleExpiresAt))
	if err == nil && rows == 0 {
		return authority.ErrConflict
	}
	return err
}

// EndGrant implements authority.GrantStore.
func (db *DB) EndGrant(ctx context.Context, id authority.ID, reason string, at, deadUntil time.Time) ([]authority.Revocation, error) {
	var ended []authority.Revocation
	err := db.transact(ctx, func(t tx) (err error) {
		var known int
		if err := t.query(`SELECT count(*) FROM grants WHERE id = $1`, []any{id.Bytes()}, func(r row) error { return r.Scan(&known) }); err != nil {
			return err
		}
		if known == 0 {
			return authority.ErrNotFound
		}
		ended, err = endGrants(t, `id = $1`, id, reason, at, deadUntil)
		return err
	})
	if err != nil {
		return nil, err // what an attempt found that was undone
	}
	return ended, nil
}

// EndSessionGrants implements authority.GrantStore.
func (db *DB) EndSessionGrants(ctx context.Context, session authority.ID, reason string, at, deadUntil time.Time) ([]authority.Revocation, error) {
	var ended []authority.Revocation
	err := db.transact(ctx, func(t tx) (err error) {
		ended, err = endGrants(t, `session_id = $1 AND NOT outlives_session`, session, reason, at, deadUntil)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// endGrants ends the grants that `which` selects, and all below them.
//
// It first locks the whole family, and looks for children again until it
// finds no new one: a child is only born under a share lock on its parent, so
// under a locked parent none can be born, and one whose birth was under way
// is there on the next look.
func endGrants(t tx, which string, arg authority.ID, reason string, at, deadUntil time.Time) ([]authority.Revocation, error) {
	family := `WITH RECURSIVE family(id) AS (
		SELECT id FROM grants WHERE ` + which + ` AND state <> 'ended'
		UNION
		SELECT child.id FROM grants AS child JOIN family ON child.parent = family.id WHERE child.state <> 'ended'
	) `
	for before := -1; ; {
		locked := 0
		err := t.query(family+`SELECT id FROM grants WHERE id IN (SELECT id FROM family) ORDER BY id FOR UPDATE`,
			[]any{arg.Bytes()}, func(row) error { locked++; return nil })
		if err != nil {
			return nil, err
		}
		if locked == 0 {
			return nil, nil
		}
		if locked == before {
			break
		}
		before = locked
	}
	var dead [][]any
	err := t.query(family+`UPDATE grants SET state = 'ended', ended_at = $2, end_reason = $3, sweep_at = $4
		WHERE id IN (SELECT id FROM family) AND state <> 'ended' RETURNING id`,
		[]any{arg.Bytes(), micros(at), reason, micros(deadUntil)}, func(r row) error {
			var b []byte
			if err := r.Scan(&b); err != nil {
				return err
			}
			id, err := authority.IDFromBytes(b)
			dead = append(dead, revocationArgs(authority.Revocation{Kind: authority.RevokeGrant, Key: id.String(), NotBefore: at, ExpiresAt: deadUntil}))
			return err
		})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(dead, func(a, b []any) int { return strings.Compare(a[1].(string), b[1].(string)) })
	revocations := make([]authority.Revocation, 0, len(dead))
	err = t.forEach(revokeForGood, dead, func(r row) error {
		revocation, err := scanRevocation(r)
		revocations = append(revocations, revocation)
		return err
	})
	return revocations, err
}

// Grants implements authority.GrantStore.
func (db *DB) Grants(ctx context.Context, f authority.GrantFilter, p authority.Page) ([]authority.Grant, error) {
	where, args, possible := grantFilter(f)
	if !possible {
		return nil, nil
	}
	if p.After != "" {
		after, err := authority.ParseID(p.After)
		if err != nil {
			return nil, fmt.Errorf("page starts after %q: %w", p.After, err)
		}
		args = append(args, after.Bytes())
		where += fmt.Sprintf(" AND id > $%d", len(args))
	}
	args = append(args, pageLimit(p))
	return all(ctx, db, scanGrant, fmt.Sprintf(`SELECT %s FROM grants WHERE %s ORDER BY id LIMIT $%d`, grantColumns, where, len(args)), args...)
}

// CountGrants implements authority.GrantStore.
func (db *DB) CountGrants(ctx context.Context, f authority.GrantFilter) (n int, err error) {
	where, args, possible := grantFilter(f)
	if !possible {
		return 0, nil
	}
	err = db.one(ctx, func(r row) error { return r.Scan(&n) }, `SELECT count(*) FROM grants WHERE `+where, args...)
	return n, err
}

// grantFilter makes one of a few dozen texts, whatever the values are, so the
// statements stay prepared. possible is false if no row can match.
func grantFilter(f authority.GrantFilter) (where string, args []any, possible bool) {
	terms := []string{"true"}
	add := func(term string, arg any) {
		args = append(args, arg)
		terms = append(terms, fmt.Sprintf(term, len(args)))
	}
	if f.ClientID != "" {
		add("client_id = $%d", f.ClientID)
	}
	if f.SubjectID != "" {
		add("subject_id = $%d", f.SubjectID)
	}
	if !f.SessionID.IsZero() {
		add("session_id = $%d", f.SessionID.Bytes())
	}
	if f.ActiveOnly {
		terms = append(terms, "state = 'active'")
		if !f.AliveAt.IsZero() {
			add("expires_at > $%d", micros(f.AliveAt))
		}
	}
	return strings.Join(terms, " AND "), args, isText(f.ClientID) && isText(f.SubjectID)
}

// consentRows bounds what one look at the consent page may read: a client
// that makes grant after grant must not slow the page down for its person.
const consentRows = 1000

var errEnough = errors.New("read enough")

// Consented implements authority.GrantStore. Of very many grants it asks the
// newest consentRows: to ask once more for consent is safe.
func (db *DB) Consented(ctx context.Context, g authority.Grant, since, now time.Time) (bool, error) {
	covered := false
	err := db.engine.query(ctx, `SELECT id, created_at, scopes, resources FROM grants
		WHERE subject_id = $1 AND subject_issuer = $2 AND subject_kind = $3 AND client_id = $4
		AND state = 'active' AND expires_at > $5 ORDER BY id DESC LIMIT $6`,
		[]any{g.Subject.ID, g.Subject.Issuer, string(g.Subject.Kind), g.ClientID, micros(now), consentRows}, func(r row) error {
			var (
				idBytes                 []byte
				created                 int64
				scopeText, resourceText string
			)
			if err := r.Scan(&idBytes, &created, &scopeText, &resourceText); err != nil {
				return err
			}
			id, err := idOf(idBytes)
			if err != nil {
				return err
			}
			if !id.Time().After(since) {
				return errEnough // the rest is older still
			}
			if !timeOf(created).After(since) {
				return nil
			}
			scopes, err := oauth.ParseScopes(scopeText)
			if err != nil {
				return err
			}
			resources, err := listOf(resourceText)
			if err != nil {
				return err
			}
			lacks := func(wanted string) bool { return !slices.Contains(resources, wanted) }
			if covered = scopes.Covers(g.Scopes) && !slices.ContainsFunc(g.Resources, lacks); covered {
				return errEnough
			}
			return nil
		})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return covered, storage(err)
}

func scanGrant(r row) (authority.Grant, error) {
	var (
		id, parent, session, codeHash, refreshHash, nonce           []byte
		kind, scopes, resources, amr, challenge, state              string
		authTime, codeExpires, rotated, idle, created, expires, end int64
		generation                                                  int64
		g                                                           authority.Grant
	)
	err := r.Scan(&id, &parent, &g.ClientID, &g.Subject.Issuer, &g.Subject.ID, &kind, &scopes, &resources,
		&g.SenderKey, &session, &authTime, &amr, &nonce, &codeHash, &challenge, &g.Code.RedirectURI, &codeExpires,
		&generation, &refreshHash, &rotated, &idle,
		&state, &created, &expires, &end, &g.EndReason)
	if err != nil {
		return g, err
	}
	failed := func(column string, err error) (authority.Grant, error) {
		return authority.Grant{}, fmt.Errorf("grants.%s: %w", column, err)
	}
	if g.ID, err = idOf(id); err != nil {
		return failed("id", err)
	}
	if g.Parent, err = idOf(parent); err != nil {
		return failed("parent", err)
	}
	if g.SessionID, err = idOf(session); err != nil {
		return failed("session_id", err)
	}
	if g.Scopes, err = oauth.ParseScopes(scopes); err != nil {
		return failed("scopes", err)
	}
	if g.Resources, err = listOf(resources); err != nil {
		return failed("resources", err)
	}
	if g.AMR, err = listOf(amr); err != nil {
		return failed("amr", err)
	}
	if g.Code.Hash, err = hashOf(codeHash); err != nil {
		return failed("code_hash", err)
	}
	if challenge != "" {
		if g.Code.Challenge, err = oauth.ParseChallenge(challenge, "S256"); err != nil {
			return failed("code_challenge", err)
		}
	}
	if g.Refresh.Hash, err = hashOf(refreshHash); err != nil {
		return failed("refresh_hash", err)
	}
	g.Subject.Kind = authority.SubjectKind(kind)
	g.AuthTime = timeOf(authTime)
	g.Nonce = string(nonce)
	g.Code.ExpiresAt = timeOf(codeExpires)
	g.Refresh.Generation = uint32(generation)
	g.Refresh.RotatedAt, g.Refresh.IdleExpiresAt = timeOf(rotated), timeOf(idle)
	g.State = authority.GrantState(state)
	g.CreatedAt, g.ExpiresAt, g.EndedAt = timeOf(created), timeOf(expires), timeOf(end)
	return g, nil
}
