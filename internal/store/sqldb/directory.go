package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Clients, users and resources are read by id or as pages, so what no
// statement looks at is one JSON text: a new field needs no migration.

type clientBody struct {
	Name                   string        `json:"name,omitempty"`
	RedirectURIs           []string      `json:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs []string      `json:"post_logout_redirect_uris,omitempty"`
	GrantTypes             []string      `json:"grant_types,omitempty"`
	AuthMethod             string        `json:"auth_method,omitempty"`
	Secrets                []secretsBody `json:"secrets,omitempty"`
	JWKS                   []byte        `json:"jwks,omitempty"`
	Scope                  string        `json:"scope,omitempty"`
	Resources              []string      `json:"resources,omitempty"`
	IDTokenAlg             string        `json:"id_token_alg,omitempty"`
	Disabled               bool          `json:"disabled,omitempty"`
}

type secretsBody struct {
	Hash      []byte `json:"hash"`
	ExpiresAt int64  `json:"expires_at,omitempty"`
}

type userBody struct {
	PasswordHash  string `json:"password_hash,omitempty"`
	Name          string `json:"name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`
	Disabled      bool   `json:"disabled,omitempty"`
}

type resourceBody struct {
	Scope                string   `json:"scope,omitempty"`
	Format               string   `json:"format,omitempty"`
	AccessTTL            int64    `json:"access_ttl_micros,omitempty"`
	IntrospectionClients []string `json:"introspection_clients,omitempty"`
}

const (
	selectClient   = `SELECT id, body, created_at, updated_at FROM clients `
	selectUser     = `SELECT id, username, body, created_at, updated_at FROM users `
	selectResource = `SELECT id, body, created_at, updated_at FROM resources `
)

// Client implements authority.DirectoryStore. A row of nobody is read for an
// unknown id, so that it takes as long as a known one (docs/security/threats.md C 39).
func (db *DB) Client(ctx context.Context, id string) (authority.Client, error) {
	c, err := byText(ctx, db, scanClient, selectClient+`WHERE id = $1`, id)
	if errors.Is(err, authority.ErrNotFound) {
		_, _ = scanClient(nobodysRow{})
	}
	return c, err
}

// nobodysRow is the row of a client as there are many.
type nobodysRow struct{}

func (nobodysRow) Scan(dest ...any) error {
	for _, d := range dest {
		if text, ok := d.(*string); ok {
			*text = nobodysBody // the id too, which nobody sees
		}
	}
	return nil
}

const nobodysBody = `{"name":"Example web app","redirect_uris":["https://app.example.com/callback"],` +
	`"grant_types":["authorization_code","refresh_token"],"auth_method":"client_secret_basic",` +
	`"secrets":[{"hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}],"scope":"openid profile email offline_access orders:read",` +
	`"resources":["https://api.example.com"]}`

// Clients implements authority.DirectoryStore.
func (db *DB) Clients(ctx context.Context, p authority.Page) ([]authority.Client, error) {
	return all(ctx, db, scanClient, selectClient+`WHERE id > $1 ORDER BY id LIMIT $2`, p.After, pageLimit(p))
}

// CreateClient implements authority.DirectoryStore.
func (db *DB) CreateClient(ctx context.Context, c authority.Client) error {
	return db.create(ctx, `INSERT INTO clients (id, body, created_at, updated_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		c.ID, bodyOfClient(c), micros(c.CreatedAt), micros(c.UpdatedAt))
}

// UpdateClient implements authority.DirectoryStore.
func (db *DB) UpdateClient(ctx context.Context, c authority.Client, unchangedSince time.Time) error {
	return db.update(ctx, `UPDATE clients SET body = $4, updated_at = $3 WHERE id = $1 AND updated_at = $2`,
		`SELECT count(*) FROM clients WHERE id = $1`, c.ID, unchangedSince, c.UpdatedAt, bodyOfClient(c))
}

// DeleteClient implements authority.DirectoryStore.
func (db *DB) DeleteClient(ctx context.Context, id string) error {
	return db.deleteByID(ctx, `DELETE FROM clients WHERE id = $1`, id)
}

// User implements authority.DirectoryStore.
func (db *DB) User(ctx context.Context, id string) (authority.User, error) {
	return byText(ctx, db, scanUser, selectUser+`WHERE id = $1`, id)
}

// UserByName implements authority.DirectoryStore.
func (db *DB) UserByName(ctx context.Context, username string) (authority.User, error) {
	return byText(ctx, db, scanUser, selectUser+`WHERE username = $1`, username)
}

// Users implements authority.DirectoryStore.
func (db *DB) Users(ctx context.Context, p authority.Page) ([]authority.User, error) {
	return all(ctx, db, scanUser, selectUser+`WHERE id > $1 ORDER BY id LIMIT $2`, p.After, pageLimit(p))
}

// CreateUser implements authority.DirectoryStore.
func (db *DB) CreateUser(ctx context.Context, u authority.User) error {
	return db.create(ctx, `INSERT INTO users (id, body, created_at, updated_at, username) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		u.ID, bodyOfUser(u), micros(u.CreatedAt), micros(u.UpdatedAt), u.Username)
}

// UpdateUser implements authority.DirectoryStore. ErrExists if another user
// has the username.
func (db *DB) UpdateUser(ctx context.Context, u authority.User, unchangedSince time.Time) error {
	return db.update(ctx, `UPDATE users SET body = $4, username = $5, updated_at = $3 WHERE id = $1 AND updated_at = $2`,
		`SELECT count(*) FROM users WHERE id = $1`, u.ID, unchangedSince, u.UpdatedAt, bodyOfUser(u), u.Username)
}

// DeleteUser implements authority.DirectoryStore.
func (db *DB) DeleteUser(ctx context.Context, id string) error {
	return db.deleteByID(ctx, `DELETE FROM users WHERE id = $1`, id)
}

// Resource implements authority.DirectoryStore.
func (db *DB) Resource(ctx context.Context, id string) (authority.Resource, error) {
	return byText(ctx, db, scanResource, selectResource+`WHERE id = $1`, id)
}

// Resources implements authority.DirectoryStore.
func (db *DB) Resources(ctx context.Context, p authority.Page) ([]authority.Resource, error) {
	return all(ctx, db, scanResource, selectResource+`WHERE id > $1 ORDER BY id LIMIT $2`, p.After, pageLimit(p))
}

// CreateResource implements authority.DirectoryStore.
func (db *DB) CreateResource(ctx context.Context, r authority.Resource) error {
	return db.create(ctx, `INSERT INTO resources (id, body, created_at, updated_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		r.ID, bodyOfResource(r), micros(r.CreatedAt), micros(r.UpdatedAt))
}

// UpdateResource implements authority.DirectoryStore.
func (db *DB) UpdateResource(ctx context.Context, r authority.Resource, unchangedSince time.Time) error {
	return db.update(ctx, `UPDATE resources SET body = $4, updated_at = $3 WHERE id = $1 AND updated_at = $2`,
		`SELECT count(*) FROM resources WHERE id = $1`, r.ID, unchangedSince, r.UpdatedAt, bodyOfResource(r))
}

// DeleteResource implements authority.DirectoryStore.
func (db *DB) DeleteResource(ctx context.Context, id string) error {
	return db.deleteByID(ctx, `DELETE FROM resources WHERE id = $1`, id)
}

func byText[T any](ctx context.Context, db *DB, scan func(row) (T, error), sql, text string) (v T, err error) {
	if !isText(text) {
		return v, authority.ErrNotFound
	}
	err = db.one(ctx, func(r row) (err error) {
		v, err = scan(r)
		return err
	}, sql, text)
	return v, err
}

func (db *DB) create(ctx context.Context, sql string, args ...any) error {
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(sql, args...)
		if err == nil && rows == 0 {
			return authority.ErrExists
		}
		return err
	})
}

// update swaps a row if its updated_at has not moved. The new mark always
// differs from the old one, so that of two changes within one microsecond the
// second still finds a conflict.
func (db *DB) update(ctx context.Context, update, exists, id string, unchangedSince, updatedAt time.Time, body string, more ...any) error {
	since, mark := micros(unchangedSince), micros(updatedAt)
	mark = max(mark, since+1)
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(update, append([]any{id, since, mark, body}, more...)...)
		if isDuplicate(err) {
			return authority.ErrExists
		}
		if err != nil || rows == 1 {
			return err
		}
		found := 0
		if err := t.query(exists, []any{id}, func(r row) error { return r.Scan(&found) }); err != nil {
			return err
		}
		if found == 0 {
			return authority.ErrNotFound
		}
		return authority.ErrConflict
	})
}

func (db *DB) deleteByID(ctx context.Context, sql, id string) error {
	if !isText(id) {
		return authority.ErrNotFound
	}
	return db.transact(ctx, func(t tx) error {
		rows, err := t.exec(sql, id)
		if err == nil && rows == 0 {
			return authority.ErrNotFound
		}
		return err
	})
}

func bodyOfClient(c authority.Client) string {
	b := clientBody{
		Name: c.Name, RedirectURIs: stringsOf(c.RedirectURIs), PostLogoutRedirectURIs: stringsOf(c.PostLogoutRedirectURIs),
		AuthMethod: string(c.AuthMethod), JWKS: c.JWKS, Scope: c.Scopes.String(), Resources: c.Resources,
		IDTokenAlg: c.IDTokenAlg, Disabled: c.Disabled,
	}
	for _, g := range c.GrantTypes {
		b.GrantTypes = append(b.GrantTypes, string(g))
	}
	for _, s := range c.Secrets {
		b.Secrets = append(b.Secrets, secretsBody{s.Hash[:], micros(s.ExpiresAt)})
	}
	return toJSON(b)
}

func scanClient(r row) (c authority.Client, err error) {
	var b clientBody
	if c.CreatedAt, c.UpdatedAt, err = scanBody(r, &b, &c.ID); err != nil {
		return c, err
	}
	failed := func(err error) (authority.Client, error) {
		return authority.Client{}, fmt.Errorf("client %q: %w", c.ID, err)
	}
	if c.RedirectURIs, err = redirectsOf(b.RedirectURIs); err != nil {
		return failed(err)
	}
	if c.PostLogoutRedirectURIs, err = redirectsOf(b.PostLogoutRedirectURIs); err != nil {
		return failed(err)
	}
	if c.Scopes, err = oauth.ParseScopes(b.Scope); err != nil {
		return failed(err)
	}
	for _, g := range b.GrantTypes {
		c.GrantTypes = append(c.GrantTypes, oauth.GrantType(g))
	}
	for _, s := range b.Secrets {
		hash, err := hashOf(s.Hash)
		if err != nil {
			return failed(err)
		}
		c.Secrets = append(c.Secrets, authority.ClientSecret{Hash: hash, ExpiresAt: timeOf(s.ExpiresAt)})
	}
	c.Name, c.AuthMethod, c.JWKS, c.Resources = b.Name, oauth.AuthMethod(b.AuthMethod), b.JWKS, b.Resources
	c.IDTokenAlg, c.Disabled, c.Source = b.IDTokenAlg, b.Disabled, authority.FromDatabase
	return c, nil
}

func bodyOfUser(u authority.User) string {
	return toJSON(userBody{u.PasswordHash, u.Name, u.Email, u.EmailVerified, u.Disabled})
}

func scanUser(r row) (u authority.User, err error) {
	var b userBody
	if u.CreatedAt, u.UpdatedAt, err = scanBody(r, &b, &u.ID, &u.Username); err != nil {
		return u, err
	}
	u.PasswordHash, u.Name, u.Email, u.EmailVerified, u.Disabled = b.PasswordHash, b.Name, b.Email, b.EmailVerified, b.Disabled
	u.Source = authority.FromDatabase
	return u, nil
}

func bodyOfResource(r authority.Resource) string {
	return toJSON(resourceBody{r.Scopes.String(), string(r.Format), r.AccessTTL.Microseconds(), r.IntrospectionClients})
}

func scanResource(r row) (v authority.Resource, err error) {
	var b resourceBody
	if v.CreatedAt, v.UpdatedAt, err = scanBody(r, &b, &v.ID); err != nil {
		return v, err
	}
	if v.Scopes, err = oauth.ParseScopes(b.Scope); err != nil {
		return v, fmt.Errorf("resource %q: %w", v.ID, err)
	}
	v.Format, v.AccessTTL = authority.TokenFormat(b.Format), time.Duration(b.AccessTTL)*time.Microsecond
	v.IntrospectionClients, v.Source = b.IntrospectionClients, authority.FromDatabase
	return v, nil
}

// scanBody reads the columns in front, then body, created_at and updated_at.
func scanBody(r row, body any, front ...any) (createdAt, updatedAt time.Time, err error) {
	var text string
	var created, updated int64
	if err := r.Scan(append(front, &text, &created, &updated)...); err != nil {
		return time.Time{}, time.Time{}, err
	}
	return timeOf(created), timeOf(updated), json.Unmarshal([]byte(text), body)
}

func toJSON(v any) string {
	text, _ := json.Marshal(v) // the body structs hold nothing that cannot be marshalled
	return string(text)
}

func stringsOf(uris []authority.RedirectURI) (list []string) {
	for _, u := range uris {
		list = append(list, u.String())
	}
	return list
}

func redirectsOf(list []string) (uris []authority.RedirectURI, err error) {
	for _, s := range list {
		u, err := authority.ParseRedirectURI(s)
		if err != nil {
			return nil, err
		}
		uris = append(uris, u)
	}
	return uris, nil
}
