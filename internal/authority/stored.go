package authority

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"
)

// What a store keeps of an object is its metadata as JSON, and beside it what
// never travels: hashes of secrets and passwords. A stored object is held to
// the rule book like any other. One that breaks it, since the book has become
// stricter, is off: its Problems say why, and it can be shown, fixed and deleted.

type storedClient struct {
	ClientMetadata
	Secrets  []storedSecret `json:"client_secrets,omitempty"`
	Disabled bool           `json:"disabled,omitempty"`
}

type storedSecret struct {
	SHA256    string    `json:"sha256"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

func (c Client) object() (Object, []Problem) {
	m := c.Metadata()
	stored := storedClient{ClientMetadata: m, Disabled: c.Disabled}
	for _, s := range m.ClientSecrets {
		stored.Secrets = append(stored.Secrets, storedSecret{hex.EncodeToString(s.Hash[:]), s.CreatedAt, s.ExpiresAt})
	}
	return Object{Kind: KindClient, ID: c.ID, Name: m.FederatedCredential.WorkloadID(), Body: marshal(stored), Revision: c.Revision, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt}, m.Validate()
}

func readClient(o Object) (Client, error) {
	var stored storedClient
	if err := json.Unmarshal(o.Body, &stored); err != nil {
		return Client{}, err
	}
	m := &stored.ClientMetadata
	m.ClientID = o.ID
	for _, s := range stored.Secrets {
		secret := ClientSecret{CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt}
		if len(s.SHA256) != hex.EncodedLen(len(secret.Hash)) {
			return Client{}, errors.New("the hash of a secret is damaged")
		}
		if _, err := hex.Decode(secret.Hash[:], []byte(s.SHA256)); err != nil {
			return Client{}, errors.New("the hash of a secret is damaged")
		}
		m.ClientSecrets = append(m.ClientSecrets, secret)
	}
	c, found := m.client()
	if len(found) > 0 {
		c.ID, c.Problems, c.broken = o.ID, found, m
	}
	c.Disabled = stored.Disabled || len(found) > 0
	c.Source, c.Revision, c.CreatedAt, c.UpdatedAt = FromDatabase, o.Revision, o.CreatedAt, o.UpdatedAt
	return c, nil
}

// nobody is a client as there are many.
var nobody = Object{Kind: KindClient, ID: "nobody", Body: []byte(`{"client_name":"Example web app",` +
	`"redirect_uris":["https://app.example.com/callback"],"grant_types":["authorization_code","refresh_token"],` +
	`"token_endpoint_auth_method":"client_secret_basic","scope":"openid profile email offline_access orders:read",` +
	`"resources":["https://api.example.com"],` +
	`"client_secrets":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000"}]}`)}

type storedUser struct {
	UserProfile
	PasswordHash string `json:"password_hash"`
	Disabled     bool   `json:"disabled,omitempty"`
}

func (u User) object() (Object, []Problem) {
	p := u.Profile()
	stored := storedUser{p, u.PasswordHash, u.Disabled}
	return Object{Kind: KindUser, ID: u.ID, Name: p.Username, Body: marshal(stored), Revision: u.Revision, CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt}, p.Validate()
}

func readUser(o Object) (User, error) {
	var stored storedUser
	if err := json.Unmarshal(o.Body, &stored); err != nil {
		return User{}, err
	}
	p := stored.UserProfile
	p.Sub, p.Username = o.ID, o.Name
	u, err := NewUser(p)
	if errors.As(err, &u.Problems) {
		u.ID, u.Username, u.broken, err = o.ID, o.Name, &p, nil
	}
	u.PasswordHash, u.Disabled = stored.PasswordHash, stored.Disabled || u.broken != nil
	u.Source, u.Revision, u.CreatedAt, u.UpdatedAt = FromDatabase, o.Revision, o.CreatedAt, o.UpdatedAt
	return u, err
}

func (r Resource) object() (Object, []Problem) {
	m := r.Metadata()
	return Object{Kind: KindResource, ID: r.ID, Body: marshal(m), Revision: r.Revision, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt}, m.Validate()
}

func readResource(o Object) (Resource, error) {
	var m ResourceMetadata
	if err := json.Unmarshal(o.Body, &m); err != nil {
		return Resource{}, err
	}
	m.ID = o.ID
	r, err := NewResource(m)
	if errors.As(err, &r.Problems) {
		r.ID, r.broken, err = o.ID, &m, nil
	}
	r.Source, r.Revision, r.CreatedAt, r.UpdatedAt = FromDatabase, o.Revision, o.CreatedAt, o.UpdatedAt
	return r, err
}
