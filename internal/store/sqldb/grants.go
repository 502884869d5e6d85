package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const grantColumns = `id, lineage, client_id, subject_issuer, subject_id, subject_kind, scopes, resources,
	confirmation, evidence_kind, evidence_key, session_id, auth_time, amr, nonce, claims, code_hash, code_challenge, code_redirect_uri, code_expires_at, redirect_digest,
	refresh_generation, refresh_hash, refresh_rotated_at, refresh_idle_expires_at,
	state, created_at, expires_at, ended_at, end_reason`

const insertGrant = `INSERT INTO grants (` + grantColumns + `, sweep_at)
	SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31
	WHERE `

func grantArgs(g authority.Grant) []any {
	sweepAt := g.ExpiresAt.Add(keep)
	if g.State == authority.GrantPending {
		sweepAt = g.Code.ExpiresAt
	}
	return []any{
		g.ID.Bytes(), lineageArg(g.Lineage), g.ClientID, g.Subject.Issuer, g.Subject.ID, string(g.Subject.Kind),
		g.Scopes.String(), listArg(g.Resources), g.Confirmation.JKT, string(g.Evidence.Kind), g.Evidence.Key, idArg(g.SessionID),
		micros(g.AuthTime), listArg(g.AMR),
		[]byte(g.Nonce), claimsArg(g.Claims), hashArg(g.Code.Hash), g.Code.Challenge.String(), g.Code.RedirectURI, micros(g.Code.ExpiresAt), hashArg(g.RedirectDigest),
		int64(g.Refresh.Generation), hashArg(g.Refresh.Hash), micros(g.Refresh.RotatedAt), micros(g.Refresh.IdleExpiresAt),
		string(g.State), micros(g.CreatedAt), micros(g.ExpiresAt), micros(g.EndedAt), g.EndReason,
		micros(sweepAt),
	}
}

// birth is the statement that stores g unless something that it comes from has
// ended. It also asks for g itself: an id that was ended before it had a row
// never gets one.
func birth(g authority.Grant) (statement string, args []any) {
	args = grantArgs(g)
	var terms []string
	for _, l := range origins(g) {
		args = append(args, string(l.Kind), l.Key)
		terms = append(terms, fmt.Sprintf("NOT EXISTS (SELECT 1 FROM revocations WHERE kind = $%d AND key = $%d)", len(args)-1, len(args)))
	}
	return insertGrant + strings.Join(terms, " AND ") + " ON CONFLICT DO NOTHING", args // of the id, or of a standing grant
}

// origins are g itself and what ends it for good: its ancestors and its evidence.
func origins(g authority.Grant) []authority.Link {
	links := []authority.Link{{Kind: authority.RevokeGrant, Key: g.ID.String()}}
	for _, a := range g.Lineage {
		links = append(links, authority.Link{Kind: authority.RevokeGrant, Key: a.GrantID.String()})
	}
	if !g.Evidence.IsZero() {
		links = append(links, g.Evidence.Link())
	}
	return links
}

const displacePending = `DELETE FROM grants WHERE session_id = $1 AND client_id = $2 AND state = 'pending' AND id <> $3`

// CreateGrant implements authority.GrantStore. A grant that comes from nothing
// is one statement. Any other takes shared locks on what it comes from, which
// whoever ends that takes alone: so a birth is seen by the end, or sees it.
func (db *DB) CreateGrant(ctx context.Context, g authority.Grant) error {
	if !g.Evidence.IsZero() {
		if err := canEnd(g.Evidence); err != nil {
			return err
		}
	}
	statement, args := birth(g)
	isOnlyPending := g.State == authority.GrantPending && !g.SessionID.IsZero()
	if len(g.Lineage) == 0 && g.Evidence.IsZero() && !isOnlyPending {
		rows, err := db.writeOne(ctx, string(g.ID.Bytes()), statement, args...)
		if err != nil || rows == 1 {
			return err
		}
		return storage(whyNotBorn(g, func(sql string, args []any, each func(row) error) error {
			return db.engine.query(ctx, sql, args, each)
		}))
	}
	locks := []lock{}
	for _, a := range g.Lineage {
		locks = append(locks, lock{onGrant, a.GrantID.String(), shared})
	}
	if !g.Evidence.IsZero() {
		locks = append(locks, lock{onEvidence, evidenceName(g.Evidence), shared})
	}
	if isOnlyPending {
		locks = append(locks, lock{onPending, g.SessionID.String() + " " + g.ClientID, alone})
	}
	return db.transact(ctx, func(t tx) error {
		t.lock(locks...)
		if isOnlyPending {
			if _, err := t.exec(displacePending, g.SessionID.Bytes(), g.ClientID, g.ID.Bytes()); err != nil {
				return err
			}
		}
		rows, err := t.exec(statement, args...)
		if err != nil || rows == 1 {
			return err
		}
		return whyNotBorn(g, t.query) // which also brings back the grant that was displaced
	})
}

// whyNotBorn tells a place that is taken from an origin that has ended.
func whyNotBorn(g authority.Grant, query func(string, []any, func(row) error) error) error {
	where, args := `id = $1`, []any{g.ID.Bytes()}
	if g.IsStanding() {
		where += ` OR ` + fmt.Sprintf(standing, 2, 3, 4, 5)
		args = append(args, standingArgs(g)...)
	}
	taken := 0
	if err := query(`SELECT count(*) FROM grants WHERE `+where, args, func(r row) error { return r.Scan(&taken) }); err != nil {
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

// The partial index on standing grants is only used where its condition is repeated.
const standing = `state = 'active' AND evidence_kind IN ('pod', 'job') AND evidence_kind = $%d AND evidence_key = $%d AND client_id = $%d AND resources = $%d`

func standingArgs(g authority.Grant) []any {
	return []any{string(g.Evidence.Kind), g.Evidence.Key, g.ClientID, listArg(g.Resources)}
}

// StandingGrant implements authority.GrantStore.
func (db *DB) StandingGrant(ctx context.Context, g authority.Grant) (found authority.Grant, err error) {
	if !g.IsStanding() {
		return authority.Grant{}, fmt.Errorf("a grant with evidence of kind %q never stands for others", g.Evidence.Kind)
	}
	err = db.one(ctx, func(r row) (err error) {
		found, err = scanGrant(r)
		return err
	}, `SELECT `+grantColumns+` FROM grants WHERE `+fmt.Sprintf(standing, 1, 2, 3, 4), standingArgs(g)...)
	return found, err
}

const redeemCode = `UPDATE grants
	SET state = 'active', refresh_generation = $4, refresh_hash = $5, refresh_rotated_at = $6,
	    refresh_idle_expires_at = $7, expires_at = $8, sweep_at = $9
	WHERE id = $1 AND state = 'pending' AND code_hash = $2 AND code_expires_at > $3`

// RedeemCode implements authority.GrantStore.
func (db *DB) RedeemCode(ctx context.Context, id authority.ID, codeHash [32]byte, refresh authority.Refresh, expiresAt, now time.Time) error {
	rows, err := db.writeOne(ctx, string(id.Bytes()), redeemCode, id.Bytes(), hashArg(codeHash), micros(now),
		int64(refresh.Generation), hashArg(refresh.Hash), micros(refresh.RotatedAt), micros(refresh.IdleExpiresAt),
		micros(expiresAt), micros(expiresAt.Add(keep)))
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

// EvidenceKeys implements authority.GrantStore. Keys with one prefix are next to
// each other in the index, so the first one without it ends the list.
func (db *DB) EvidenceKeys(ctx context.Context, kind authority.EvidenceKind, prefix string, p authority.Page) (keys []string, err error) {
	if !isText(prefix) || !isText(p.After) {
		return nil, nil
	}
	err = db.engine.query(ctx, `SELECT DISTINCT evidence_key FROM grants
		WHERE evidence_kind <> '' AND evidence_kind = $1 AND evidence_key >= $2 AND evidence_key > $3 AND state <> 'ended'
		ORDER BY evidence_key LIMIT $4`, []any{string(kind), prefix, p.After, pageLimit(p)}, func(r row) error {
		var key string
		if err := r.Scan(&key); err != nil {
			return err
		}
		if !strings.HasPrefix(key, prefix) {
			return errEnough
		}
		keys = append(keys, key)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, storage(err)
	}
	return keys, nil
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
	if prefix := f.SubjectPrefix; prefix != "" { // neighbours in the index
		add("subject_id >= $%d", prefix)
		last := len(prefix) - 1
		add("subject_id < $%d", prefix[:last]+string(rune(prefix[last]+1)))
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
	return strings.Join(terms, " AND "), args, isText(f.ClientID) && isText(f.SubjectID) && isText(f.SubjectPrefix)
}

// consentRows bounds what one look at the consent page may read: a client
// that makes grant after grant must not slow the page down for its person.
const consentRows = 1000

var errEnough = errors.New("read enough")

// Consented implements authority.GrantStore. Of very many grants it asks the
// newest consentRows: to ask once more for consent is safe.
func (db *DB) Consented(ctx context.Context, g authority.Grant, since, now time.Time) (bool, error) {
	covered := false
	err := db.engine.query(ctx, `SELECT id, created_at, scopes, resources, claims FROM grants
		WHERE subject_id = $1 AND subject_issuer = $2 AND subject_kind = $3 AND client_id = $4
		AND redirect_digest = $5 AND state = 'active' AND expires_at > $6 ORDER BY id DESC LIMIT $7`,
		[]any{g.Subject.ID, g.Subject.Issuer, string(g.Subject.Kind), g.ClientID, hashArg(g.RedirectDigest), micros(now), consentRows}, func(r row) error {
			var (
				idBytes                         []byte
				created                         int64
				scopeText, resourceText, claims string
				given                           authority.Grant
			)
			if err := r.Scan(&idBytes, &created, &scopeText, &resourceText, &claims); err != nil {
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
			if given.Scopes, err = oauth.ParseScopes(scopeText); err != nil {
				return err
			}
			if given.Resources, err = listOf(resourceText); err != nil {
				return err
			}
			if given.Claims, err = claimsOf(claims); err != nil {
				return err
			}
			if covered = given.Covers(g); covered {
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
		id, session, codeHash, refreshHash, redirects, nonce        []byte
		lineage, kind, evidence, scopes, resources, amr             string
		challenge, state, claims                                    string
		authTime, codeExpires, rotated, idle, created, expires, end int64
		generation                                                  int64
		g                                                           authority.Grant
	)
	err := r.Scan(&id, &lineage, &g.ClientID, &g.Subject.Issuer, &g.Subject.ID, &kind, &scopes, &resources,
		&g.Confirmation.JKT, &evidence, &g.Evidence.Key, &session, &authTime, &amr, &nonce, &claims, &codeHash, &challenge, &g.Code.RedirectURI, &codeExpires, &redirects,
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
	if g.Lineage, err = lineageOf(lineage); err != nil {
		return failed("lineage", err)
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
	if g.Claims, err = claimsOf(claims); err != nil {
		return failed("claims", err)
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
	if g.RedirectDigest, err = hashOf(redirects); err != nil {
		return failed("redirect_digest", err)
	}
	g.Subject.Kind = authority.SubjectKind(kind)
	g.Evidence.Kind = authority.EvidenceKind(evidence)
	g.AuthTime = timeOf(authTime)
	g.Nonce = string(nonce)
	g.Code.ExpiresAt = timeOf(codeExpires)
	g.Refresh.Generation = uint32(generation)
	g.Refresh.RotatedAt, g.Refresh.IdleExpiresAt = timeOf(rotated), timeOf(idle)
	g.State = authority.GrantState(state)
	g.CreatedAt, g.ExpiresAt, g.EndedAt = timeOf(created), timeOf(expires), timeOf(end)
	return g, nil
}

// lineageArg stores a lineage as JSON text, the empty one as empty text.
func lineageArg(lineage []authority.Ancestor) string {
	if len(lineage) == 0 {
		return ""
	}
	pairs := make([][2]string, len(lineage))
	for i, a := range lineage {
		pairs[i] = [2]string{a.GrantID.String(), a.ClientID}
	}
	text, _ := json.Marshal(pairs) // strings always marshal
	return string(text)
}

func lineageOf(text string) ([]authority.Ancestor, error) {
	if text == "" {
		return nil, nil
	}
	var pairs [][2]string
	if err := json.Unmarshal([]byte(text), &pairs); err != nil {
		return nil, err
	}
	lineage := make([]authority.Ancestor, len(pairs))
	for i, pair := range pairs {
		id, err := authority.ParseID(pair[0])
		if err != nil {
			return nil, err
		}
		lineage[i] = authority.Ancestor{GrantID: id, ClientID: pair[1]}
	}
	return lineage, nil
}

// Most grants have no claims of their own, and then an empty text.
func claimsArg(c authority.RequestedClaims) string {
	if c.IsZero() {
		return ""
	}
	text, _ := json.Marshal(c) // lists of strings always have a JSON form
	return string(text)
}

func claimsOf(text string) (c authority.RequestedClaims, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &c)
	}
	return c, err
}
