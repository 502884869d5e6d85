package admin

import (
	"context"
	"slices"
	"strings"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
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
		Cluster: func(name string) (authority.ClusterMetadata, error) {
			c, err := a.Directory.Cluster(ctx, name)
			return c.Metadata(), err
		},
		TrustedIssuer: func(name string) (authority.TrustedIssuerMetadata, error) {
			for _, t := range a.Directory.TrustedIssuers() {
				if t.Name == name {
					return t.Metadata(), nil
				}
			}
			return authority.TrustedIssuerMetadata{}, authority.ErrNotFound
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
func listObjects[T, S any](ctx context.Context, c *api.Call, declared []T, id func(T) string, registry authority.Registry[T], show func(T) S) (api.Plan, error) {
	return list(c, declared, id, func(p authority.Page) ([]T, error) { return registry.List(ctx, p) }, show)
}

// listDeclared pages through what only the file has.
func listDeclared[T, S any](c *api.Call, declared []T, id func(T) string, show func(T) S) (api.Plan, error) {
	return list(c, declared, id, func(authority.Page) ([]T, error) { return nil, nil }, show)
}

func list[T, S any](c *api.Call, declared []T, id func(T) string, stored func(authority.Page) ([]T, error), show func(T) S) (api.Plan, error) {
	items, next, err := api.List(declared, id, stored, c.Page)
	if err != nil {
		return api.Plan{}, err
	}
	page := admin.Page[S]{Items: make([]S, 0, len(items)), Next: next}
	for _, item := range items {
		page.Items = append(page.Items, show(item))
	}
	return api.Reads(page), nil
}

// shownProblems are the rules that something stored breaks.
func shownProblems(found []authority.Problem) (shown []admin.Problem) {
	for _, p := range found {
		shown = append(shown, admin.Problem(p))
	}
	return shown
}

// problems makes what a rule has found an error.
func problems(found []authority.Problem, err error) error {
	if err == nil && len(found) > 0 {
		return authority.Problems(found)
	}
	return err
}

// holdsNoMore refuses a client that holds more of this API than the caller's
// token: nobody hands out more than he has, or undoes what others have done.
func holdsNoMore(token *issue.AccessToken, c authority.Client) error {
	m := c.Metadata() // also of one that is off, and holds nothing now
	if !slices.Contains(m.Resources, authority.AdminResource) {
		return nil
	}
	for scope := range strings.FieldsSeq(m.Scope) {
		if authority.AdminScopes.Has(scope) && !token.Scopes.Has(scope) {
			e := api.LacksScope(scope)
			e.Description = "the client has the scope " + scope + " of this API, and the access token has not: nobody changes a client that holds more"
			return e
		}
	}
	return nil
}
