package authority

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Directory finds clients, users and resources: first those of the
// configuration file, then those of the database. The two never overlap.
type Directory struct {
	declared atomic.Pointer[Declared]
	store    DirectoryStore
}

// Declared is what the configuration file holds.
type Declared struct {
	Clients   map[string]Client
	Users     map[string]User // by id
	Resources map[string]Resource

	usersByName map[string]string
}

// AdminScopes are the scopes of the admin API.
var AdminScopes = oauth.MustScopes(
	"clients:read", "clients:write", "users:read", "users:write", "keys:read", "keys:write",
	"grants:read", "grants:write", "resources:read", "resources:write", "journal:read",
)

// AdminResourceMetadata is the built-in resource, as a file would write it.
func AdminResourceMetadata() ResourceMetadata {
	return ResourceMetadata{ID: AdminResource, Scopes: AdminScopes.List(), TokenFormat: string(FormatJWT)}
}

// ErrOverlap is an id that the configuration file and the database both hold.
var ErrOverlap = errors.New("in the configuration file and in the database")

// NewDirectory makes a directory over a store. Declare fills in the rest.
func NewDirectory(store DirectoryStore) *Directory {
	d := &Directory{store: store}
	d.declared.Store(&Declared{})
	return d
}

// Declare puts the configuration file's clients, users and resources in place
// of those before, all at once. It refuses an id that the database has too,
// and then changes nothing.
func (d *Directory) Declare(ctx context.Context, next Declared) error {
	if err := d.Check(ctx, next); err != nil {
		return err
	}
	next.Resources = maps.Clone(next.Resources)
	if next.Resources == nil {
		next.Resources = map[string]Resource{}
	}
	next.Resources[AdminResource] = Resource{ID: AdminResource, Scopes: AdminScopes, Format: FormatJWT, Source: FromFile}
	next.usersByName = map[string]string{}
	for id, u := range next.Users {
		next.usersByName[strings.ToLower(u.Username)] = id
	}
	d.declared.Store(&next)
	return nil
}

// Check says why Declare would refuse: ErrOverlap, unless the store fails. `sub`
// tells users and clients apart by their ids, so these must not overlap either
// (RFC 9068 §5).
func (d *Directory) Check(ctx context.Context, next Declared) error {
	if _, exists := next.Resources[AdminResource]; exists {
		return fmt.Errorf("resource %q is built in and cannot be declared", AdminResource)
	}
	for id := range next.Clients {
		if _, err := d.store.Client(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "client", id)
		}
		if _, err := d.store.User(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "id", id)
		}
	}
	for id, u := range next.Users {
		if _, err := d.store.User(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "user", id)
		}
		if _, err := d.store.Client(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "id", id)
		}
		if _, err := d.store.UserByName(ctx, strings.ToLower(u.Username)); !errors.Is(err, ErrNotFound) {
			return overlap(err, "user", u.Username)
		}
	}
	for id := range next.Resources {
		if _, err := d.store.Resource(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "resource", id)
		}
	}
	return nil
}

func overlap(err error, kind, id string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%s %q is %w: remove one of them", kind, id, ErrOverlap)
}

// DeclaredClients returns the clients of the configuration file, sorted by id.
func (d *Directory) DeclaredClients() []Client {
	m := d.declared.Load().Clients
	return sortedValues(m)
}

// DeclaredUsers returns the users of the configuration file, sorted by id.
func (d *Directory) DeclaredUsers() []User { return sortedValues(d.declared.Load().Users) }

// DeclaredResources returns the resources of the configuration file, sorted by id.
func (d *Directory) DeclaredResources() []Resource {
	return sortedValues(d.declared.Load().Resources)
}

// ResourceScopes are the scopes of the configuration file's resources, for
// discovery. Those of the admin API are not announced.
func (d *Directory) ResourceScopes() []string {
	var names []string
	for _, r := range d.DeclaredResources() {
		if r.ID != AdminResource {
			names = append(names, r.Scopes.List()...)
		}
	}
	return names
}

func sortedValues[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, id := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[id])
	}
	return values
}

// Client finds a client. ErrNotFound.
func (d *Directory) Client(ctx context.Context, id string) (Client, error) {
	if c, ok := d.declared.Load().Clients[id]; ok {
		return c, nil
	}
	return d.store.Client(ctx, id)
}

// EvenOut makes a refused client id cost the same whether it was declared, stored or
// unknown: the database has been asked for the latter two alone. An endpoint that
// refuses a client without saying why calls it, so that the time of the answer does
// not say either (docs/security/threats.md C 39).
func (d *Directory) EvenOut(ctx context.Context, refusedID string) {
	if _, declared := d.declared.Load().Clients[refusedID]; declared {
		_, _ = d.store.Client(ctx, refusedID)
	}
}

// User finds a user by id. ErrNotFound.
func (d *Directory) User(ctx context.Context, id string) (User, error) {
	if u, ok := d.declared.Load().Users[id]; ok {
		return u, nil
	}
	return d.store.User(ctx, id)
}

// UserByName finds a user by username, in any letter case: two people whose
// names differ only in that would be taken for each other. ErrNotFound.
func (d *Directory) UserByName(ctx context.Context, username string) (User, error) {
	username = strings.ToLower(username)
	declared := d.declared.Load()
	if id, ok := declared.usersByName[username]; ok {
		return declared.Users[id], nil
	}
	return d.store.UserByName(ctx, username)
}

// Alive asks for the accounts that a token depends on, and returns the
// person's, zero for a client or a workload. ErrEnded if one of them is disabled
// or gone, or if the kind of subject is not known. Epochs end their tokens too;
// this also holds until an epoch is heard.
func (d *Directory) Alive(ctx context.Context, clientID string, subject Subject) (User, error) {
	client, err := d.Client(ctx, clientID)
	if errors.Is(err, ErrNotFound) || err == nil && client.Disabled {
		return User{}, fmt.Errorf("%w: client %q is disabled or gone", ErrEnded, clientID)
	}
	if err != nil || subject.Kind == SubjectClient && subject.ID == clientID {
		return User{}, err
	}
	return d.Account(ctx, subject)
}

// Account asks for the account of a subject alone: see Alive.
func (d *Directory) Account(ctx context.Context, subject Subject) (User, error) {
	switch subject.Kind {
	case SubjectUser:
		user, err := d.User(ctx, subject.ID)
		if errors.Is(err, ErrNotFound) || err == nil && user.Disabled {
			return User{}, fmt.Errorf("%w: user %q is disabled or gone", ErrEnded, subject.ID)
		}
		return user, err
	case SubjectClient:
		client, err := d.Client(ctx, subject.ID)
		if errors.Is(err, ErrNotFound) || err == nil && client.Disabled {
			return User{}, fmt.Errorf("%w: client %q is disabled or gone", ErrEnded, subject.ID)
		}
		return User{}, err
	case SubjectWorkload:
		return User{}, nil // has no account here: its grant, evidence and epochs decide
	default:
		return User{}, fmt.Errorf("%w: subject %q is of a kind that is not known", ErrEnded, subject.ID)
	}
}

// Resource finds a resource. ErrNotFound.
func (d *Directory) Resource(ctx context.Context, id string) (Resource, error) {
	if r, ok := d.declared.Load().Resources[id]; ok {
		return r, nil
	}
	return d.store.Resource(ctx, id)
}
