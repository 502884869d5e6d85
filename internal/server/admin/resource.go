// RFC 8707: resources and their identifiers.
package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// maxAccessTTL is the bound of the configuration file.
const maxAccessTTL = time.Hour

// Resource is an API that accepts our tokens, as the API shows it.
type Resource struct {
	ID                   string     `json:"id" doc:"What aud holds."`
	Scopes               []string   `json:"scopes"`
	TokenFormat          string     `json:"token_format" enum:"jwt,opaque"`
	AccessTTL            int64      `json:"access_ttl,omitempty" doc:"Seconds. Missing: the issuer's."`
	IntrospectionClients []string   `json:"introspection_clients,omitempty" doc:"The clients that may introspect tokens for this resource."`
	Source               string     `json:"source" enum:"file,database"`
	CreatedAt            *time.Time `json:"created_at,omitempty"`
	UpdatedAt            *time.Time `json:"updated_at,omitempty"`
}

// ResourceFields is what may be set. What is not sent stays as it is.
type ResourceFields struct {
	Scopes               *[]string `json:"scopes,omitempty"`
	TokenFormat          *string   `json:"token_format,omitempty" enum:"jwt,opaque" doc:"Default jwt."`
	AccessTTL            *int64    `json:"access_ttl,omitempty" doc:"Seconds, 1 to 3600; 0 for the issuer's."`
	IntrospectionClients *[]string `json:"introspection_clients,omitempty"`
}

// NewResource is the body that creates a resource.
type NewResource struct {
	ID string `json:"id" doc:"An absolute URI without a fragment."`
	ResourceFields
}

func (a *API) listResources(ctx context.Context, c *call) (plan, error) {
	stored := func(p authority.Page) ([]authority.Resource, error) { return a.Store.Resources(ctx, p) }
	resources, next, err := list(a.Directory.DeclaredResources(), func(r authority.Resource) string { return r.ID }, stored, c.page)
	if err != nil {
		return plan{}, err
	}
	page := Page[Resource]{Items: []Resource{}, Next: next}
	for _, resource := range resources {
		page.Items = append(page.Items, showResource(resource))
	}
	return reads(page), nil
}

func (a *API) showResource(ctx context.Context, c *call) (plan, error) {
	resource, err := a.resource(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	return reads(showResource(resource)), nil
}

func (a *API) createResource(ctx context.Context, c *call) (plan, error) {
	body, err := decode[NewResource](c)
	if err != nil {
		return plan{}, err
	}
	resource := authority.Resource{Format: authority.FormatJWT, Source: authority.FromDatabase, CreatedAt: c.now, UpdatedAt: c.now}
	if resource.ID, err = authority.ParseResourceID(body.ID); err != nil || !printable(body.ID, maxID) {
		return plan{}, invalid("id must be an absolute URI without a fragment")
	}
	if resource.ID == a.Settings().URL {
		return plan{}, invalid("id is the issuer itself: give the API an identifier of its own")
	}
	if _, err := a.Directory.Resource(ctx, resource.ID); !errors.Is(err, authority.ErrNotFound) {
		return plan{}, taken(err, "resource", resource.ID)
	}
	if err := a.setResource(ctx, &resource, body.ResourceFields); err != nil {
		return plan{}, err
	}
	return plan{
		events: []authority.Event{{Target: resource.ID, Scope: resource.Scopes.String(), Reason: "created"}},
		apply: func(ctx context.Context) (any, error) {
			return showResource(resource), a.Store.CreateResource(ctx, resource)
		},
	}, nil
}

func (a *API) updateResource(ctx context.Context, c *call) (plan, error) {
	body, err := decode[ResourceFields](c)
	if err != nil {
		return plan{}, err
	}
	old, err := a.storedResource(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	resource := old
	if err := a.setResource(ctx, &resource, body); err != nil {
		return plan{}, err
	}
	resource.UpdatedAt = later(c.now, old.UpdatedAt)
	return plan{
		events: []authority.Event{{Target: resource.ID, Scope: resource.Scopes.String(), Reason: "changed " + sent(body)}},
		apply: func(ctx context.Context) (any, error) {
			return showResource(resource), a.Store.UpdateResource(ctx, resource, old.UpdatedAt)
		},
	}, nil
}

func (a *API) deleteResource(ctx context.Context, c *call) (plan, error) {
	resource, err := a.storedResource(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	users, err := a.clientsOf(ctx, resource.ID)
	if err != nil {
		return plan{}, err
	}
	if len(users) > 0 {
		return plan{}, conflict("conflict", "clients name this resource: %s; take it from them first", strings.Join(users, ", "))
	}
	return plan{
		events: []authority.Event{{Target: resource.ID, Reason: "deleted"}},
		apply:  func(ctx context.Context) (any, error) { return nil, a.Store.DeleteResource(ctx, resource.ID) },
	}, nil
}

// clientsOf names the first few clients that may reach a resource.
func (a *API) clientsOf(ctx context.Context, resource string) ([]string, error) {
	const enough = 5
	var ids []string
	err := a.eachClient(ctx, func(c authority.Client) bool {
		if c.MayReach(resource) {
			ids = append(ids, c.ID)
		}
		return len(ids) < enough
	})
	return ids, err
}

// eachClient walks over all clients until yield has enough.
func (a *API) eachClient(ctx context.Context, yield func(authority.Client) bool) error {
	for _, client := range a.Directory.DeclaredClients() {
		if !yield(client) {
			return nil
		}
	}
	page := authority.Page{Limit: maxPage}
	for {
		clients, err := a.Store.Clients(ctx, page)
		if err != nil {
			return err
		}
		for _, client := range clients {
			if !yield(client) {
				return nil
			}
		}
		if len(clients) < page.Limit {
			return nil
		}
		page.After = clients[len(clients)-1].ID
	}
}

func (a *API) resource(ctx context.Context, id string) (authority.Resource, error) {
	resource, err := a.Directory.Resource(ctx, id)
	if errors.Is(err, authority.ErrNotFound) {
		return resource, notFound("there is no resource %q", clip(id))
	}
	return resource, err
}

// storedResource finds a resource that may be changed here.
func (a *API) storedResource(ctx context.Context, id string) (authority.Resource, error) {
	resource, err := a.resource(ctx, id)
	switch {
	case err == nil && id == authority.AdminResource:
		return resource, conflict("read_only", "resource %q is built in", id)
	case err == nil && resource.Source == authority.FromFile:
		return resource, readOnly("resource", id)
	}
	return resource, err
}

// setResource parses what was sent into the resource.
func (a *API) setResource(ctx context.Context, r *authority.Resource, f ResourceFields) (err error) {
	if f.Scopes != nil {
		if r.Scopes, err = oauth.ScopesOf(*f.Scopes...); err != nil {
			return invalid("scopes: %v", err)
		}
		if common := r.Scopes.Intersect(oauth.StandardScopes); !common.IsEmpty() {
			return invalid("scopes: %s belongs to OpenID Connect, choose another name", common)
		}
	}
	if f.TokenFormat != nil {
		if r.Format = authority.TokenFormat(*f.TokenFormat); r.Format != authority.FormatJWT && r.Format != authority.FormatOpaque {
			return invalid("token_format must be jwt or opaque")
		}
	}
	if f.AccessTTL != nil {
		if *f.AccessTTL < 0 || *f.AccessTTL > int64(maxAccessTTL/time.Second) {
			return invalid("access_ttl must be from 0 to %d seconds", int64(maxAccessTTL/time.Second))
		}
		r.AccessTTL = time.Duration(*f.AccessTTL) * time.Second
	}
	if f.IntrospectionClients == nil {
		return nil
	}
	if r.IntrospectionClients, err = unique("introspection_clients", *f.IntrospectionClients, maxReferences); err != nil {
		return err
	}
	for _, id := range r.IntrospectionClients {
		client, err := a.Directory.Client(ctx, id)
		switch {
		case errors.Is(err, authority.ErrNotFound):
			return invalid("introspection_clients: there is no client %q", clip(id))
		case err != nil:
			return err
		case client.IsPublic():
			return invalid("introspection_clients: %q is a public client: anybody could introspect in its name", clip(id))
		}
	}
	return nil
}

func showResource(r authority.Resource) Resource {
	scopes := r.Scopes.List()
	if scopes == nil {
		scopes = []string{}
	}
	return Resource{
		ID: r.ID, Scopes: scopes, TokenFormat: string(r.Format), AccessTTL: int64(r.AccessTTL / time.Second),
		IntrospectionClients: r.IntrospectionClients, Source: string(r.Source), CreatedAt: shownTime(r.CreatedAt), UpdatedAt: shownTime(r.UpdatedAt),
	}
}
