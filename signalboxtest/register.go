package signalboxtest

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
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
			_, err := i.admin.UpdateResource(context.Background(), r.ID, admin.ResourceFields{IntrospectionClients: &r.IntrospectionClients})
			i.must(err)
		}
	}
}

func (i *Issuer) addResource(r Resource) {
	i.helper()
	format := "jwt"
	if r.Opaque {
		format = "opaque"
	}
	ttl := int64(r.AccessTTL / time.Second)
	_, err := i.admin.CreateResource(context.Background(), admin.NewResource{ID: r.ID, ResourceFields: admin.ResourceFields{
		Scopes: &r.Scopes, TokenFormat: &format, AccessTTL: &ttl,
	}})
	i.must(err)
}

func (i *Issuer) addClient(c Client) {
	i.helper()
	grants, method := []string{"authorization_code", "refresh_token"}, "none"
	if !c.Public {
		grants, method = append(grants, "client_credentials"), "client_secret_basic"
	}
	redirects, scope := append([]string{redirectURI}, c.RedirectURIs...), strings.Join(c.Scopes, " ")
	made, err := i.admin.CreateClient(context.Background(), admin.NewClient{ClientID: c.ID, ClientFields: admin.ClientFields{
		ClientName: &c.ID, GrantTypes: &grants, AuthMethod: &method, RedirectURIs: &redirects, Scope: &scope, Resources: &c.Resources,
	}})
	i.must(err)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clients[c.ID] = registered{c, made.ClientSecret}
}

func (i *Issuer) addUser(u User) {
	i.helper()
	if u.Password == "" {
		u.Password = randomText()
	}
	made, err := i.admin.CreateUser(context.Background(), admin.NewUser{
		Username: u.Username, Password: u.Password, Name: u.Name, Email: u.Email, EmailVerified: u.Email != "",
	})
	i.must(err)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.users[u.Username] = person{u, made.UserID, i.newBrowser()}
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
