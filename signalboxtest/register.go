package signalboxtest

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Option is something that an issuer has: a Resource, a Client or a User.
type Option interface{ isOption() }

// Resource is an API that accepts the issuer's tokens.
type Resource struct {
	ID     string   // what `aud` holds: an absolute URI
	Scopes []string // the scopes that it knows
	// Opaque resources get tokens that can only be introspected. Others get JWTs
	// (RFC 9068).
	Opaque    bool
	AccessTTL time.Duration // of its access tokens, in whole seconds; zero means 5 minutes
	// IntrospectionClients are ids of clients that may introspect its tokens.
	IntrospectionClients []string
}

// Client is a registered client. It may use client credentials, unless it is
// public, and authorization codes with refresh tokens.
type Client struct {
	ID           string
	Scopes       []string // of its resources, and openid, profile, email, offline_access
	Resources    []string // ids
	RedirectURIs []string
	Public       bool // has no secret
}

// User is a person who can sign in and approves what is asked.
type User struct {
	Username string
	Password string // empty: one is made
	Name     string
	Email    string // verified
}

func (Resource) isOption() {}
func (Client) isOption()   {}
func (User) isOption()     {}

// registered and person are what the issuer has to remember of them.
type registered struct {
	Client
	secret string
}

type person struct {
	User
	subject string
	browser *http.Client // signed in once it was needed
}

// redirectURI takes the codes of UserToken. Nobody listens there.
const redirectURI = "http://127.0.0.1/signalboxtest"

type object map[string]any

// Add registers more. The order does not matter: a client may come before its
// resource.
func (i *Issuer) Add(options ...Option) {
	i.helper()
	for _, o := range options {
		if r, ok := o.(Resource); ok {
			i.addResource(r)
		}
	}
	for _, o := range options {
		switch o := o.(type) {
		case Client:
			i.addClient(o)
		case User:
			i.addUser(o)
		}
	}
	for _, o := range options {
		if r, ok := o.(Resource); ok && len(r.IntrospectionClients) > 0 {
			i.admin(http.MethodPatch, "/resources/"+url.PathEscape(r.ID), object{"introspection_clients": r.IntrospectionClients}, nil)
		}
	}
}

func (i *Issuer) addResource(r Resource) {
	i.helper()
	format := "jwt"
	if r.Opaque {
		format = "opaque"
	}
	i.admin(http.MethodPost, "/resources", object{"id": r.ID, "scopes": r.Scopes, "token_format": format, "access_ttl": int64(r.AccessTTL / time.Second)}, nil)
}

func (i *Issuer) addClient(c Client) {
	i.helper()
	grants, method := []string{"authorization_code", "refresh_token"}, "none"
	if !c.Public {
		grants, method = append(grants, "client_credentials"), "client_secret_basic"
	}
	var made struct {
		Secret string `json:"client_secret"`
	}
	i.admin(http.MethodPost, "/clients", object{
		"client_id": c.ID, "client_name": c.ID, "grant_types": grants, "token_endpoint_auth_method": method,
		"redirect_uris": append([]string{redirectURI}, c.RedirectURIs...), "scope": strings.Join(c.Scopes, " "), "resources": c.Resources,
	}, &made)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clients[c.ID] = registered{c, made.Secret}
}

func (i *Issuer) addUser(u User) {
	i.helper()
	if u.Password == "" {
		u.Password = randomText()
	}
	var made struct {
		ID string `json:"user_id"`
	}
	i.admin(http.MethodPost, "/users", object{
		"username": u.Username, "password": u.Password, "name": u.Name, "email": u.Email, "email_verified": u.Email != "",
	}, &made)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.users[u.Username] = person{u, made.ID, i.newBrowser()}
}

// Secret is the secret of a client.
func (i *Issuer) Secret(clientID string) string { i.helper(); return i.client(clientID).secret }

// Subject is the `sub` of a user.
func (i *Issuer) Subject(username string) string { i.helper(); return i.user(username).subject }

func (i *Issuer) client(id string) registered {
	i.helper()
	i.mu.Lock()
	c, ok := i.clients[id]
	i.mu.Unlock()
	if !ok {
		i.fail("signalboxtest: there is no client %q: add signalboxtest.Client{ID: %q, …}", id, id)
	}
	return c
}

// user is the person with that name; the empty name is nobody's.
func (i *Issuer) user(name string) person {
	i.helper()
	if name == "" {
		return person{}
	}
	i.mu.Lock()
	p, ok := i.users[name]
	i.mu.Unlock()
	if !ok {
		i.fail("signalboxtest: there is no user %q: add signalboxtest.User{Username: %q}", name, name)
	}
	return p
}
