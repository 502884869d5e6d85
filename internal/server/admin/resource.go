// RFC 8707: resources and their identifiers.
package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// setResource changes what was sent.
func setResource(m *authority.ResourceMetadata, f admin.ResourceFields) {
	set(&m.Scopes, f.Scopes)
	set(&m.TokenFormat, f.TokenFormat)
	set(&m.IntrospectionClients, f.IntrospectionClients)
	if f.AccessTTL != nil {
		m.AccessTTL = authority.SecondsOf(*f.AccessTTL)
	}
}

func (a *API) resourceRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.ListResources, Scope: "resources:read", Run: a.listResources,
			Summary: "List resources: those of the configuration file first.", Query: api.Query(admin.Paging{}), Out: admin.Page[admin.Resource]{},
		},
		{
			Operation: operation.CreateResource, Scope: "resources:write", Event: authority.EventResourceChanged, Run: a.createResource,
			Summary: "Create a resource.", In: admin.NewResource{}, Out: admin.Resource{}, Status: http.StatusCreated,
		},
		{
			Operation: operation.ShowResource, Scope: "resources:read", Run: a.showResource,
			Summary: "Show a resource. Its id is percent-encoded in the path.", Out: admin.Resource{},
		},
		{
			Operation: operation.UpdateResource, Scope: "resources:write", Event: authority.EventResourceChanged, Run: a.updateResource,
			Summary: "Change a resource: what is sent replaces what was there.", In: admin.ResourceFields{}, Out: admin.Resource{},
		},
		{
			Operation: operation.DeleteResource, Scope: "resources:write", Event: authority.EventResourceChanged, Run: a.deleteResource,
			Summary: "Delete a resource that no client names any more.", Status: http.StatusNoContent,
		},
	}
}

func (a *API) resources() authority.Registry[authority.Resource] { return authority.Resources(a.Store) }

func (a *API) listResources(ctx context.Context, c *api.Call) (api.Plan, error) {
	return listObjects(ctx, c, a.Directory.StaticResources(), func(r authority.Resource) string { return r.ID }, a.resources(), showResource)
}

func (a *API) showResource(ctx context.Context, c *api.Call) (api.Plan, error) {
	resource, err := a.resource(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Reads(showResource(resource)), nil
}

func (a *API) createResource(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.NewResource](c)
	if err != nil {
		return api.Plan{}, err
	}
	m := authority.ResourceMetadata{ID: body.ID, TokenFormat: string(authority.FormatJWT)}
	setResource(&m, body.ResourceFields)
	resource, err := a.makeResource(ctx, m)
	if err != nil {
		return api.Plan{}, err
	}
	if _, err := a.Directory.Resource(ctx, resource.ID); !errors.Is(err, authority.ErrNotFound) {
		return api.Plan{}, taken(err, "resource", resource.ID)
	}
	resource.Source, resource.CreatedAt, resource.UpdatedAt = authority.FromDatabase, c.Now, c.Now
	return api.Plan{
		Events: a.resourceChanged(authority.Resource{}, resource, "created"),
		Apply: func(ctx context.Context) (any, error) {
			return showResource(resource), a.resources().Create(ctx, resource)
		},
	}, nil
}

func (a *API) updateResource(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.ResourceFields](c)
	if err != nil {
		return api.Plan{}, err
	}
	old, err := a.storedResource(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	m := old.Metadata()
	setResource(&m, body)
	resource, err := a.makeResource(ctx, m)
	if err != nil {
		return api.Plan{}, err
	}
	resource.Revision, resource.CreatedAt, resource.UpdatedAt = old.Revision, old.CreatedAt, c.Now
	return api.Plan{
		Events: a.resourceChanged(old, resource, "changed "+api.Sent(body)),
		Apply: func(ctx context.Context) (any, error) {
			resource, err := a.resources().Update(ctx, resource)
			return showResource(resource), err
		},
	}, nil
}

// resourceChanged is the change in the journal.
func (a *API) resourceChanged(old, resource authority.Resource, how string) []authority.Event {
	e := authority.Event{Target: resource.ID, Scope: resource.Scopes.String(), Reason: how}
	return e.WithChanges(a.resources().Changes(old, resource))
}

// makeResource holds what was sent to the rule book.
func (a *API) makeResource(ctx context.Context, m authority.ResourceMetadata) (authority.Resource, error) {
	resource, err := authority.NewResource(m)
	if err != nil {
		return resource, err
	}
	return resource, problems(m.CheckReferences(a.references(ctx)))
}

func (a *API) deleteResource(ctx context.Context, c *api.Call) (api.Plan, error) {
	resource, err := a.storedResource(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	users, err := a.clientsOf(ctx, resource.ID)
	if err != nil {
		return api.Plan{}, err
	}
	if len(users) > 0 {
		return api.Plan{}, api.Conflict("conflict", "clients name this resource: %s; take it from them first", strings.Join(users, ", "))
	}
	return api.Plan{
		Events: []authority.Event{{Target: resource.ID, Reason: "deleted"}},
		Apply:  func(ctx context.Context) (any, error) { return nil, a.resources().Delete(ctx, resource, c.Now) },
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
	for _, client := range a.Directory.StaticClients() {
		if !yield(client) {
			return nil
		}
	}
	return a.clients().All(ctx, yield)
}

// resource finds a resource, also a stored one that breaks a rule and is off.
func (a *API) resource(ctx context.Context, id string) (authority.Resource, error) {
	resource, err := a.Directory.Resource(ctx, id)
	if err == nil && strings.HasPrefix(id, authority.ClusterAudience(a.Settings().URL, "")) {
		err = authority.ErrNotFound // a cluster is administered as one
	}
	if errors.Is(err, authority.ErrNotFound) {
		resource, err = a.resources().Get(ctx, id)
	}
	if errors.Is(err, authority.ErrNotFound) {
		return resource, api.NotFound("there is no resource %q", api.Clip(id))
	}
	return resource, err
}

// storedResource finds a resource that may be changed here.
func (a *API) storedResource(ctx context.Context, id string) (authority.Resource, error) {
	resource, err := a.resource(ctx, id)
	switch {
	case err == nil && (id == authority.AdminResource || id == authority.TokenReviewAudience(a.Settings().URL)):
		return resource, api.Conflict("read_only", "resource %q is built in", id)
	case err == nil && resource.Source == authority.FromFile:
		return resource, api.ReadOnly("resource", id)
	}
	return resource, err
}

func showResource(r authority.Resource) admin.Resource {
	m := r.Metadata()
	shown := admin.Resource{
		ID: m.ID, Scopes: m.Scopes, TokenFormat: m.TokenFormat, AccessTTL: int64(time.Duration(m.AccessTTL) / time.Second),
		IntrospectionClients: m.IntrospectionClients, Problems: shownProblems(r.Problems),
		Source: string(r.Source), CreatedAt: shownTime(r.CreatedAt), UpdatedAt: shownTime(r.UpdatedAt),
	}
	if shown.Scopes == nil {
		shown.Scopes = []string{}
	}
	return shown
}
