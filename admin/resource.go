package admin

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// Resource is an API that accepts our tokens, as the API shows it.
type Resource struct {
	ID                   string     `json:"id" doc:"What aud holds."`
	Scopes               []string   `json:"scopes"`
	TokenFormat          string     `json:"token_format" enum:"jwt,opaque"`
	AccessTTL            int64      `json:"access_ttl,omitempty" doc:"Seconds. Missing: the issuer's."`
	IntrospectionClients []string   `json:"introspection_clients,omitempty" doc:"The clients that may introspect tokens for this resource."`
	Problems             []Problem  `json:"problems,omitempty" doc:"The rules that it breaks, since they have become stricter: it gets no tokens until it is changed."`
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

// ListResources lists resources: those of the configuration file first.
func (a *API) ListResources(ctx context.Context, p Paging) (Page[Resource], error) {
	return call[Page[Resource]](ctx, a, operation.ListResources, "", nil, p)
}

// CreateResource creates a resource.
func (a *API) CreateResource(ctx context.Context, r NewResource) (Resource, error) {
	return call[Resource](ctx, a, operation.CreateResource, "", r)
}

// ShowResource shows a resource.
func (a *API) ShowResource(ctx context.Context, id string) (Resource, error) {
	return call[Resource](ctx, a, operation.ShowResource, id, nil)
}

// UpdateResource changes a resource: what is sent replaces what was there.
func (a *API) UpdateResource(ctx context.Context, id string, f ResourceFields) (Resource, error) {
	return call[Resource](ctx, a, operation.UpdateResource, id, f)
}

// DeleteResource deletes a resource that no client names any more.
func (a *API) DeleteResource(ctx context.Context, id string) error {
	return a.run(ctx, operation.DeleteResource, id)
}
