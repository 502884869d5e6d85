package admin

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// Grant is a standing permission as the API shows it.
type Grant struct {
	GrantID   string     `json:"grant_id"`
	Lineage   []string   `json:"lineage,omitempty" doc:"The grants that this one came from, oldest first. It ends with each of them."`
	ClientID  string     `json:"client_id"`
	Subject   Subject    `json:"subject"`
	Scope     string     `json:"scope"`
	Resources []string   `json:"resources,omitempty"`
	JKT       string     `json:"jkt,omitempty" doc:"Thumbprint of the key that the client must prove (RFC 9449)."`
	Evidence  *Evidence  `json:"evidence,omitempty" doc:"What the grant ends with."`
	SessionID string     `json:"sid,omitempty"`
	AuthTime  *time.Time `json:"auth_time,omitempty"`
	AMR       []string   `json:"amr,omitempty"`
	State     string     `json:"state" enum:"pending,active,ended"`
	Alive     bool       `json:"alive" doc:"It can still give tokens: active, not expired, and no epoch has passed over it."`
	Refreshes int64      `json:"refreshes" doc:"How often it was refreshed."`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	Refreshed *time.Time `json:"refreshed_at,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	EndReason string     `json:"end_reason,omitempty"`
}

// Evidence is what a grant depends on.
type Evidence struct {
	Kind string `json:"kind" enum:"session,pod,job,sender_key"`
	Key  string `json:"key"`
}

// GrantWithFamily is a grant, what it came from and what came from it.
type GrantWithFamily struct {
	Grant
	Ancestors   []Ancestor `json:"ancestors,omitempty" doc:"What it came from, oldest first."`
	Descendants []Grant    `json:"descendants" doc:"What came from it, oldest first: the last of each one's lineage is its parent."`
	Partial     bool       `json:"partial,omitempty" doc:"There are or may be more descendants: too many to look at and show."`
}

// Ancestor is a grant that another came from.
type Ancestor struct {
	GrantID  string `json:"grant_id"`
	ClientID string `json:"client_id"`
	Rowless  bool   `json:"rowless,omitempty" doc:"It has no row: a machine got it for itself, or it was removed after its end."`
	State    string `json:"state,omitempty" enum:"pending,active,ended"`
	Alive    bool   `json:"alive" doc:"Nothing has ended it, nor what it depends on."`
}

// GrantFilter chooses grants. Its zero value chooses all.
type GrantFilter struct {
	ClientID       string `query:"client_id" doc:"Only grants of this client."`
	Subject        string `query:"subject" doc:"Only grants of this subject: a user's or a client's id, or a workload's."`
	Cluster        string `query:"cluster" doc:"Only grants of the workloads of this cluster."`
	Namespace      string `query:"namespace" doc:"With cluster: only those of this namespace."`
	ServiceAccount string `query:"service_account" doc:"With cluster and namespace: only those of this service account."`
	TrustedIssuer  string `query:"trusted_issuer" doc:"Only grants of those whom this trusted issuer vouches for."`
	Active         bool   `query:"active" doc:"true: only grants that can still give tokens."`
}

// ListGrants lists grants, oldest first.
func (a *API) ListGrants(ctx context.Context, f GrantFilter, p Paging) (Page[Grant], error) {
	return call[Page[Grant]](ctx, a, operation.ListGrants, "", nil, f, p)
}

// ShowGrant shows a grant, what it came from and what came from it.
func (a *API) ShowGrant(ctx context.Context, grantID string) (GrantWithFamily, error) {
	return call[GrantWithFamily](ctx, a, operation.ShowGrant, grantID, nil)
}

// EndGrant ends a grant with all its descendants and their tokens.
func (a *API) EndGrant(ctx context.Context, grantID string) (Revoked, error) {
	return call[Revoked](ctx, a, operation.EndGrant, grantID, nil)
}
