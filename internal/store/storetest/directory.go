package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func client(id string) authority.Client {
	redirect, err := authority.ParseRedirectURI("https://app.example.com/callback?a=b")
	if err != nil {
		panic(err)
	}
	return authority.Client{
		ID: id, Name: "Wéb <app>", RedirectURIs: []authority.RedirectURI{redirect}, PostLogoutRedirectURIs: []authority.RedirectURI{redirect},
		GrantTypes: []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}, AuthMethod: oauth.AuthClientSecretBasic,
		Secrets: []authority.ClientSecret{{Hash: hash(1)}, {Hash: hash(2), ExpiresAt: start.Add(time.Hour)}},
		JWKS:    []byte(`{"keys":[]}`), Scopes: oauth.MustScopes("openid", "orders:read"), Resources: []string{"https://api.example.com"},
		IDTokenAlg: "RS256", Disabled: true, Source: authority.FromDatabase, CreatedAt: start, UpdatedAt: start.Add(time.Second),
	}
}

func user(id string) authority.User {
	return authority.User{
		ID: id, Username: "name of " + id, PasswordHash: "$argon2id$v=19$…", Name: "Ada L.", Email: "ada@example.com", EmailVerified: true,
		Disabled: true, Source: authority.FromDatabase, CreatedAt: start, UpdatedAt: start,
	}
}

func resource(id string) authority.Resource {
	return authority.Resource{
		ID: id, Scopes: oauth.MustScopes("orders:read"), Format: authority.FormatOpaque, AccessTTL: time.Minute,
		IntrospectionClients: []string{"api"}, Source: authority.FromDatabase, CreatedAt: start, UpdatedAt: start,
	}
}

// directory is one of the three kinds, so that one list of promises holds for all.
type directory[T any] struct {
	make   func(id string) T
	mark   func(v T, id string, at time.Time) T // another value with this id and UpdatedAt
	id     func(T) string
	get    func(context.Context, string) (T, error)
	list   func(context.Context, authority.Page) ([]T, error)
	create func(context.Context, T) error
	update func(context.Context, T, time.Time) error
	delete func(context.Context, string) error
}

func clientsOf(s Store) directory[authority.Client] {
	return directory[authority.Client]{client, func(c authority.Client, id string, at time.Time) authority.Client {
		return authority.Client{ID: id, Name: c.Name + "!", Source: authority.FromDatabase, CreatedAt: c.CreatedAt, UpdatedAt: at}
	}, func(c authority.Client) string { return c.ID }, s.Client, s.Clients, s.CreateClient, s.UpdateClient, s.DeleteClient}
}

func usersOf(s Store) directory[authority.User] {
	return directory[authority.User]{user, func(u authority.User, id string, at time.Time) authority.User {
		return authority.User{ID: id, Username: u.Username + "!", Source: authority.FromDatabase, CreatedAt: u.CreatedAt, UpdatedAt: at}
	}, func(u authority.User) string { return u.ID }, s.User, s.Users, s.CreateUser, s.UpdateUser, s.DeleteUser}
}

func resourcesOf(s Store) directory[authority.Resource] {
	return directory[authority.Resource]{resource, func(r authority.Resource, id string, at time.Time) authority.Resource {
		return authority.Resource{ID: id, AccessTTL: r.AccessTTL + time.Second, Source: authority.FromDatabase, CreatedAt: r.CreatedAt, UpdatedAt: at}
	}, func(r authority.Resource) string { return r.ID }, s.Resource, s.Resources, s.CreateResource, s.UpdateResource, s.DeleteResource}
}

var directoryChecks = []check{
	{"clients are created, read, listed, changed and deleted", func(t testing.TB, e Engine) {
		s := e.Open(t)
		checkDirectory(t, clientsOf(s), clientsOf(e.Again(t, s)))
	}},
	{"users are created, read, listed, changed and deleted", func(t testing.TB, e Engine) {
		s := e.Open(t)
		checkDirectory(t, usersOf(s), usersOf(e.Again(t, s)))
	}},
	{"resources are created, read, listed, changed and deleted", func(t testing.TB, e Engine) {
		s := e.Open(t)
		checkDirectory(t, resourcesOf(s), resourcesOf(e.Again(t, s)))
	}},
	{"a username is one person's", func(t testing.TB, e Engine) {
		s := e.Open(t)
		a, b := user("a"), user("b")
		noError(t, s.CreateUser(t.Context(), a))
		noError(t, s.CreateUser(t.Context(), b))
		got, err := s.UserByName(t.Context(), a.Username)
		noError(t, err)
		equal(t, got, a)
		for _, name := range []string{"nobody", "NAME OF A", "", "a", "name\x00", "name\xff"} {
			_, err := s.UserByName(t.Context(), name)
			wantError(t, err, authority.ErrNotFound)
		}
		c := user("c")
		c.Username = a.Username
		wantError(t, s.CreateUser(t.Context(), c), authority.ErrExists)
		_, err = s.User(t.Context(), "c")
		wantError(t, err, authority.ErrNotFound)
		taken := b
		taken.Username = a.Username
		wantError(t, s.UpdateUser(t.Context(), taken, b.UpdatedAt), authority.ErrExists)
		got, err = s.User(t.Context(), "b")
		noError(t, err)
		equal(t, got, b)
	}},
}

func checkDirectory[T any](t testing.TB, d, otherNode directory[T]) {
	ctx := t.Context()
	_, err := d.get(ctx, "a")
	wantError(t, err, authority.ErrNotFound)
	wantError(t, d.update(ctx, d.make("a"), start), authority.ErrNotFound)
	wantError(t, d.delete(ctx, "a"), authority.ErrNotFound)
	for _, id := range []string{"a\x00", "a\xff", "'; DROP TABLE clients; --"} {
		_, err := d.get(ctx, id)
		wantError(t, err, authority.ErrNotFound)
		wantError(t, d.delete(ctx, id), authority.ErrNotFound)
	}

	var want []T
	for _, id := range []string{"B", "Z", "a", "a b", "ab", "https://x/?y#z", "é"} { // sorted by bytes
		want = append(want, d.make(id))
	}
	for i := range want {
		noError(t, d.create(ctx, want[(i*3)%len(want)]))
	}
	wantError(t, d.create(ctx, want[2]), authority.ErrExists)
	for _, v := range want {
		got, err := otherNode.get(ctx, d.id(v))
		noError(t, err)
		equal(t, got, v)
	}
	var got []T
	for after := ""; ; {
		page, err := d.list(ctx, authority.Page{After: after, Limit: 3})
		noError(t, err)
		if len(page) == 0 {
			break
		}
		if len(page) > 3 {
			t.Fatalf("a page of %d", len(page))
		}
		got = append(got, page...)
		after = d.id(page[len(page)-1])
	}
	equal(t, got, want)
	one, err := d.list(ctx, authority.Page{})
	noError(t, err)
	equal(t, len(one), 1)

	// A change replaces what its maker has seen, and nothing else.
	a, _ := d.get(ctx, "a")
	first := d.mark(a, "a", start.Add(time.Minute))
	since := start
	if c, isClient := any(a).(authority.Client); isClient {
		since = c.UpdatedAt
	}
	wantError(t, d.update(ctx, first, since.Add(-time.Microsecond)), authority.ErrConflict)
	noError(t, d.update(ctx, first, since))
	got1, err := d.get(ctx, "a")
	noError(t, err)
	equal(t, got1, first)
	wantError(t, d.update(ctx, first, since), authority.ErrConflict)

	// Of many changes to one thing one succeeds, even if the clock stands still.
	contend(t, authority.ErrConflict, func(i int) error {
		node := d
		if i%2 == 1 {
			node = otherNode
		}
		return node.update(ctx, d.mark(first, "a", start.Add(time.Minute)), start.Add(time.Minute))
	})

	contend(t, authority.ErrNotFound, func(int) error { return d.delete(ctx, "a") })
	_, err = d.get(ctx, "a")
	wantError(t, err, authority.ErrNotFound)
	contend(t, authority.ErrExists, func(int) error { return d.create(ctx, d.make("a")) })
}
