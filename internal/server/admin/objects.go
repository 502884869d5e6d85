package admin

import (
	"context"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// What the files of clients, users and resources share. Rules about an object
// are in authority; these files say what may be sent and what is answered.

// references answers what the rule book asks about other objects.
func (a *API) references(ctx context.Context) authority.References {
	refs := authority.References{
		Issuer: a.Settings().URL,
		Client: func(id string) (authority.ClientMetadata, error) {
			c, err := a.Directory.Client(ctx, id)
			return c.Metadata(), err
		},
		Resource: func(id string) (authority.ResourceMetadata, error) {
			r, err := a.Directory.Resource(ctx, id)
			return r.Metadata(), err
		},
	}
	for _, k := range a.Keys() {
		if k.State == authority.KeyCurrent {
			refs.Algorithms = append(refs.Algorithms, k.Algorithm)
		}
	}
	return refs
}

// set changes a member that was sent.
func set[T any](member *T, sent *T) {
	if sent != nil {
		*member = *sent
	}
}

// listObjects pages through what the file declares and what the database holds.
func listObjects[T, S any](ctx context.Context, c *call, declared []T, id func(T) string, registry authority.Registry[T], show func(T) S) (plan, error) {
	stored := func(p authority.Page) ([]T, error) { return registry.List(ctx, p) }
	items, next, err := list(declared, id, stored, c.page)
	if err != nil {
		return plan{}, err
	}
	page := Page[S]{Items: make([]S, 0, len(items)), Next: next}
	for _, item := range items {
		page.Items = append(page.Items, show(item))
	}
	return reads(page), nil
}
