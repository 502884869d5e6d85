package authority

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Kind is a kind of registered object: what the admin API keeps in the database.
type Kind string

// The kinds of this version.
const (
	KindClient   Kind = "client"
	KindUser     Kind = "user"
	KindResource Kind = "resource"
	KindCluster  Kind = "cluster"
)

// Kinds that only the file has.
const (
	KindTrustedIssuer Kind = "trusted_issuer"
	KindPolicy        Kind = "policy"
)

// Namespace is within what an id is unique. Clients and users share one, since
// the sub of a token holds either (RFC 9068 §5).
func (k Kind) Namespace() string {
	if k == KindClient || k == KindUser {
		return "subject"
	}
	return string(k)
}

// KeepsIDs says that an id is never given a second time: a sub must mean one
// person or machine forever (OpenID Connect Core §2).
func (k Kind) KeepsIDs() bool { return k.Namespace() == KindUser.Namespace() }

// Object is a registered object as a store keeps it.
type Object struct {
	Kind      Kind
	ID        string
	Name      string // a second unique key within the kind, such as a username; empty for none
	Body      []byte // JSON that no statement looks at: a new member needs no migration
	Revision  int64  // 1 for a new object, and one more with every update
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Registry is the typed view of the objects of one kind. A kind has its line
// here, its rules in a …Metadata type, and a file in internal/server/admin.
type Registry[T any] struct {
	store ObjectStore
	kind  Kind
	write func(T) (Object, []Problem)
	read  func(Object) (T, error)
	decoy *Object // read where none is found, so that an unknown id costs what a known one does
}

// Clients are the clients of the database. Their second key is the workload of
// their federated credential: one workload is one client.
func Clients(s ObjectStore) Registry[Client] {
	return Registry[Client]{s, KindClient, Client.object, readClient, &nobody}
}

// Users are the users of the database. Their second key is the username.
func Users(s ObjectStore) Registry[User] {
	return Registry[User]{s, KindUser, User.object, readUser, nil}
}

// Resources are the resources of the database.
func Resources(s ObjectStore) Registry[Resource] {
	return Registry[Resource]{s, KindResource, Resource.object, readResource, nil}
}

// Clusters are the clusters of the database.
func Clusters(s ObjectStore) Registry[Cluster] {
	return Registry[Cluster]{s, KindCluster, Cluster.object, readCluster, nil}
}

// Get finds an object. ErrNotFound.
func (r Registry[T]) Get(ctx context.Context, id string) (T, error) {
	o, err := r.store.Object(ctx, r.kind, id)
	if errors.Is(err, ErrNotFound) && r.decoy != nil {
		_, _ = r.read(*r.decoy)
	}
	return r.readIf(o, err)
}

// ByName finds an object by its second key. ErrNotFound.
func (r Registry[T]) ByName(ctx context.Context, name string) (T, error) {
	return r.readIf(r.store.ObjectByName(ctx, r.kind, name))
}

func (r Registry[T]) readIf(o Object, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	v, err := r.read(o)
	if err != nil {
		return v, fmt.Errorf("%s %q of the database: %w", r.kind, o.ID, err)
	}
	return v, nil
}

// List gives a page, sorted by id.
func (r Registry[T]) List(ctx context.Context, p Page) ([]T, error) {
	objects, err := r.store.Objects(ctx, r.kind, p)
	if err != nil {
		return nil, err
	}
	list := make([]T, 0, len(objects))
	for _, o := range objects {
		v, err := r.readIf(o, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// All walks over every object until yield has enough.
func (r Registry[T]) All(ctx context.Context, yield func(T) bool) error {
	page := Page{Limit: 1000}
	for {
		objects, err := r.store.Objects(ctx, r.kind, page)
		if err != nil {
			return err
		}
		for _, o := range objects {
			v, err := r.readIf(o, nil)
			if err != nil {
				return err
			}
			if !yield(v) {
				return nil
			}
			page.After = o.ID
		}
		if len(objects) < page.Limit {
			return nil
		}
	}
}

// Create stores a new object, as CreateObject does. Problems if it breaks a rule.
func (r Registry[T]) Create(ctx context.Context, v T) error {
	o, found := r.write(v)
	if len(found) > 0 {
		return Problems(found)
	}
	return r.store.CreateObject(ctx, o)
}

// Update replaces an object that nobody has changed since it was read, as
// UpdateObject does, and returns it at its new revision. Problems if it breaks
// a rule.
func (r Registry[T]) Update(ctx context.Context, v T) (T, error) {
	o, found := r.write(v)
	if len(found) > 0 {
		return v, Problems(found)
	}
	if err := r.store.UpdateObject(ctx, o); err != nil {
		return v, err
	}
	o.Revision++
	return r.readIf(o, nil)
}

// Delete deletes an object that nobody has changed since it was read, as
// DeleteObject does.
func (r Registry[T]) Delete(ctx context.Context, v T, at time.Time) error {
	o, _ := r.write(v)
	return r.store.DeleteObject(ctx, r.kind, o.ID, o.Revision, at)
}

// marshal writes a body, which has no member that cannot be written.
func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}
