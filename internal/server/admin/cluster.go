// Kubernetes clusters, and what only the file has: trusted issuers and trust
// policies.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// Cluster is a Kubernetes cluster as the API shows it.
type Cluster struct {
	Name                 string              `json:"name"`
	Audience             string              `json:"audience" doc:"The aud of tokens for the cluster."`
	Issuer               string              `json:"issuer,omitempty" doc:"The iss of its service-account tokens. Missing: it is only a place that tokens can be for."`
	JWKS                 json.RawMessage     `json:"jwks,omitempty" doc:"Their public keys, where they were pasted."`
	JWKSURI              string              `json:"jwks_uri,omitempty"`
	APIServer            string              `json:"api_server,omitempty"`
	CA                   string              `json:"ca,omitempty" doc:"The certificates that api_server is verified with, as PEM."`
	Credential           string              `json:"credential,omitempty" enum:"in-cluster,self,kubeconfig"`
	Pods                 string              `json:"pods,omitempty" enum:"watch,review,offline"`
	TerminatingPods      string              `json:"terminating_pods,omitempty" enum:"grace,refuse"`
	Audiences            []string            `json:"audiences,omitempty" doc:"What the aud of its tokens may be. Missing: the issuer of this service."`
	WebhookCaller        string              `json:"webhook_caller,omitempty" doc:"The client as which its API server asks /kubernetes/tokenreview."`
	IntrospectionClients []string            `json:"introspection_clients,omitempty"`
	Problems             []authority.Problem `json:"problems,omitempty" doc:"The rules that it breaks, since they have become stricter: it is off until it is changed."`
	Source               string              `json:"source" enum:"file,database"`
	CreatedAt            *time.Time          `json:"created_at,omitempty"`
	UpdatedAt            *time.Time          `json:"updated_at,omitempty"`
	Status               *ClusterStatus      `json:"status,omitempty" doc:"How it is now, as this node sees it. Only when one is shown."`
}

// ClusterStatus is how a cluster is doing, as one node sees it.
type ClusterStatus struct {
	Node          string     `json:"node" doc:"The node that says so."`
	Reachable     bool       `json:"reachable" doc:"Its API server answers and allows what is needed."`
	ReachFailure  string     `json:"reach_failure,omitempty" doc:"Why not."`
	Watch         string     `json:"watch,omitempty" enum:"up,down,elsewhere" doc:"elsewhere: another node watches. Missing: nobody has to."`
	Watcher       string     `json:"watcher,omitempty" doc:"The node that watches."`
	WatchFailure  string     `json:"watch_failure,omitempty"`
	HeardAt       *time.Time `json:"heard_at,omitempty" doc:"The last sign of life of the watch."`
	LagSeconds    int64      `json:"lag_seconds,omitempty" doc:"How late the last event was."`
	Pods          int        `json:"pods,omitempty" doc:"How many pods are watched."`
	Keys          []string   `json:"keys,omitempty" doc:"The ids of the keys that verify its tokens."`
	KeysFetchedAt *time.Time `json:"keys_fetched_at,omitempty"`
	KeysFailure   string     `json:"keys_failure,omitempty" doc:"Why the last fetch brought nothing, or why a key is not used."`
	Refusal       string     `json:"last_refusal,omitempty" doc:"Why a token of it was refused last."`
	RefusedAt     *time.Time `json:"last_refusal_at,omitempty"`
	Notes         []string   `json:"notes,omitempty" doc:"What is weak about how it is reached."`
}

// ClusterFields is what may be set. What is not sent stays as it is; an empty
// text or list takes a value away.
type ClusterFields struct {
	Issuer               *string          `json:"issuer,omitempty"`
	JWKS                 *json.RawMessage `json:"jwks,omitempty" doc:"A JSON Web Key Set of public keys; {} takes it away."`
	JWKSURI              *string          `json:"jwks_uri,omitempty"`
	APIServer            *string          `json:"api_server,omitempty"`
	CA                   *string          `json:"ca,omitempty" doc:"PEM."`
	Credential           *string          `json:"credential,omitempty" enum:"in-cluster,self"`
	Pods                 *string          `json:"pods,omitempty" enum:"watch,review,offline"`
	TerminatingPods      *string          `json:"terminating_pods,omitempty" enum:"grace,refuse"`
	Audiences            *[]string        `json:"audiences,omitempty"`
	WebhookCaller        *string          `json:"webhook_caller,omitempty"`
	IntrospectionClients *[]string        `json:"introspection_clients,omitempty"`
}

// NewCluster is the body that registers a cluster.
type NewCluster struct {
	Name string `json:"name" doc:"a to z, 0 to 9 and -, at most 63."`
	ClusterFields
}

// onto changes what was sent.
func (f ClusterFields) onto(m *authority.ClusterMetadata) {
	set(&m.Issuer, f.Issuer)
	set(&m.JWKSURI, f.JWKSURI)
	set(&m.APIServer, f.APIServer)
	set(&m.CA, f.CA)
	set(&m.Credential, f.Credential)
	set(&m.Pods, f.Pods)
	set(&m.TerminatingPods, f.TerminatingPods)
	set(&m.Audiences, f.Audiences)
	set(&m.IntrospectionClients, f.IntrospectionClients)
	if f.JWKS != nil {
		if m.JWKS = *f.JWKS; string(m.JWKS) == "{}" {
			m.JWKS = nil
		}
	}
	if f.WebhookCaller != nil {
		if m.Webhook = nil; *f.WebhookCaller != "" {
			m.Webhook = &authority.Webhook{Caller: *f.WebhookCaller}
		}
	}
}

// TrustedIssuer is another issuer whose tokens count as proof. Only the
// configuration file has them.
type TrustedIssuer struct {
	Name        string          `json:"name"`
	Issuer      string          `json:"issuer,omitempty"`
	TrustDomain string          `json:"trust_domain,omitempty"`
	JWKS        json.RawMessage `json:"jwks,omitempty"`
	JWKSURI     string          `json:"jwks_uri,omitempty"`
	Audiences   []string        `json:"audiences,omitempty"`
	Status      *IssuerStatus   `json:"status,omitempty" doc:"How it is now, as this node sees it. Only when one is shown."`
}

// IssuerStatus is how a trusted issuer is doing, as one node sees it.
type IssuerStatus struct {
	Node          string     `json:"node" doc:"The node that says so."`
	Keys          []string   `json:"keys,omitempty" doc:"The ids of the keys that verify its tokens."`
	KeysFetchedAt *time.Time `json:"keys_fetched_at,omitempty" doc:"When they were fetched last with success. Missing: never, or they are pasted."`
	KeysFailure   string     `json:"keys_failure,omitempty" doc:"Why the last fetch brought nothing, or why a key is not used."`
	Refusal       string     `json:"last_refusal,omitempty" doc:"Why a token of it was refused last."`
	RefusedAt     *time.Time `json:"last_refusal_at,omitempty"`
}

// Policy is a trust policy. Only the configuration file has them.
type Policy struct {
	Name   string     `json:"name"`
	From   PolicyFrom `json:"from"`
	When   string     `json:"when,omitempty" doc:"CEL."`
	To     PolicyTo   `json:"to"`
	Groups []string   `json:"groups,omitempty"`
	TTL    int64      `json:"ttl" doc:"Seconds."`
	Mode   string     `json:"mode" enum:"enforce,audit"`
}

// PolicyFrom says whose proof a policy is about.
type PolicyFrom struct {
	Cluster        string  `json:"cluster,omitempty"`
	Namespace      string  `json:"namespace,omitempty"`
	ServiceAccount string  `json:"service_account,omitempty"`
	TrustedIssuer  string  `json:"trusted_issuer,omitempty"`
	Subject        string  `json:"subject,omitempty"`
	Claims         []Claim `json:"claims,omitempty"`
	UserGroup      string  `json:"user_group,omitempty"`
	Client         string  `json:"client,omitempty"`
	OnBehalfOf     string  `json:"on_behalf_of,omitempty"`
}

// Claim is one claim that a proof must have.
type Claim struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// PolicyTo says what a policy gives.
type PolicyTo struct {
	Cluster  string   `json:"cluster,omitempty"`
	Resource string   `json:"resource,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
}

func (a *API) clusterRoutes() []api.Route {
	return []api.Route{
		{
			Method: "GET", Path: "/clusters", Name: "listClusters", Scope: "clusters:read", Run: a.listClusters,
			Summary: "List clusters: those of the configuration file first.", Query: api.Paging, Out: api.Page[Cluster]{},
		},
		{
			Method: "POST", Path: "/clusters", Name: "createCluster", Scope: "clusters:write", Event: authority.EventClusterChanged, Run: a.createCluster,
			Summary: "Register a cluster. What the workloads of an earlier cluster of this name still have ends.", In: NewCluster{}, Out: Cluster{}, Status: http.StatusCreated,
		},
		{
			Method: "GET", Path: "/clusters/{id}", Name: "showCluster", Scope: "clusters:read", Run: a.showCluster,
			Summary: "Show a cluster and how it is doing.", Out: Cluster{},
		},
		{
			Method: "PATCH", Path: "/clusters/{id}", Name: "updateCluster", Scope: "clusters:write", Event: authority.EventClusterChanged, Run: a.updateCluster,
			Summary: "Change a cluster: what is sent replaces what was there. If something goes that made its tokens good, all that came from them ends.", In: ClusterFields{}, Out: Cluster{},
		},
		{
			Method: "DELETE", Path: "/clusters/{id}", Name: "deleteCluster", Scope: "clusters:write", Event: authority.EventClusterChanged, Run: a.deleteCluster,
			Summary: "Delete a cluster, and end everything that its workloads have.", Status: http.StatusNoContent,
		},
		{
			Method: "GET", Path: "/trusted-issuers", Name: "listTrustedIssuers", Scope: "clusters:read", Run: a.listTrustedIssuers,
			Summary: "List the trusted issuers of the configuration file.", Query: api.Paging, Out: api.Page[TrustedIssuer]{},
		},
		{
			Method: "GET", Path: "/trusted-issuers/{id}", Name: "showTrustedIssuer", Scope: "clusters:read", Run: a.showTrustedIssuer,
			Summary: "Show a trusted issuer and how it is doing.", Out: TrustedIssuer{},
		},
		{
			Method: "GET", Path: "/policies", Name: "listPolicies", Scope: "clusters:read", Run: a.listPolicies,
			Summary: "List the trust policies of the configuration file.", Query: api.Paging, Out: api.Page[Policy]{},
		},
	}
}

func (a *API) clusters() authority.Registry[authority.Cluster] { return authority.Clusters(a.Store) }

func (a *API) listClusters(ctx context.Context, c *api.Call) (api.Plan, error) {
	return listObjects(ctx, c, a.Directory.StaticClusters(), func(c authority.Cluster) string { return c.Name }, a.clusters(), a.shownCluster)
}

func (a *API) showCluster(ctx context.Context, c *api.Call) (api.Plan, error) {
	cluster, err := a.cluster(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	shown := a.shownCluster(cluster)
	if a.ClusterStatus != nil && len(cluster.Problems) == 0 {
		status := a.ClusterStatus(ctx, cluster.Name)
		shown.Status = &status
	}
	return api.Reads(shown), nil
}

func (a *API) createCluster(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[NewCluster](c)
	if err != nil {
		return api.Plan{}, err
	}
	m := authority.ClusterMetadata{Name: body.Name}
	body.onto(&m)
	cluster, err := a.makeCluster(ctx, m)
	if err != nil {
		return api.Plan{}, err
	}
	if _, err := a.cluster(ctx, cluster.Name); !errors.Is(err, authority.ErrNotFound) {
		return api.Plan{}, taken(err, "cluster", cluster.Name)
	}
	cluster.Source, cluster.CreatedAt, cluster.UpdatedAt = authority.FromDatabase, c.Now, c.Now
	return api.Plan{
		Events: a.clusterChanged(authority.Cluster{}, cluster, "created"),
		Apply: func(ctx context.Context) (any, error) {
			// Another cluster may have had this name. Its workloads are not these.
			if err := a.endCluster(ctx, c, cluster.Name, "a cluster of this name was registered"); err != nil {
				return nil, err
			}
			return a.shownCluster(cluster), a.clusters().Create(ctx, cluster)
		},
	}, nil
}

func (a *API) updateCluster(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[ClusterFields](c)
	if err != nil {
		return api.Plan{}, err
	}
	old, err := a.storedCluster(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	m := old.Metadata()
	body.onto(&m)
	cluster, err := a.makeCluster(ctx, m)
	if err != nil {
		return api.Plan{}, err
	}
	cluster.Revision, cluster.CreatedAt, cluster.UpdatedAt = old.Revision, old.CreatedAt, c.Now
	ends := authority.LosesTrust(old.TrustDigest(), cluster.TrustDigest())
	return api.Plan{
		EndsAccess: ends,
		Events:     a.clusterChanged(old, cluster, "changed "+api.Sent(body)),
		Apply: func(ctx context.Context) (any, error) {
			// Before and after: a failure in between leaves nothing alive that should
			// have ended, and nothing slips in between.
			if ends {
				if err := a.endCluster(ctx, c, cluster.Name, "the cluster is changed"); err != nil {
					return nil, err
				}
			}
			cluster, err := a.clusters().Update(ctx, cluster)
			if err == nil && ends {
				err = a.endCluster(ctx, c, cluster.Name, "the cluster was changed")
			}
			return a.shownCluster(cluster), err
		},
	}, nil
}

// deleteCluster ends before and after, as updateCluster does: after a failure on the
// way it can be asked for again.
func (a *API) deleteCluster(ctx context.Context, c *api.Call) (api.Plan, error) {
	cluster, err := a.storedCluster(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Plan{
		EndsAccess: true,
		Events:     []authority.Event{{Target: cluster.Name, Reason: "deleted"}},
		Apply: func(ctx context.Context) (any, error) {
			if err := a.endCluster(ctx, c, cluster.Name, "the cluster is deleted"); err != nil {
				return nil, err
			}
			if err := a.clusters().Delete(ctx, cluster, c.Now); err != nil {
				return nil, err
			}
			return nil, a.endCluster(ctx, c, cluster.Name, "the cluster was deleted")
		},
	}, nil
}

func (a *API) endCluster(ctx context.Context, c *api.Call, name, why string) error {
	e := authority.Event{Target: string(authority.EpochCluster) + " " + name, Reason: why}
	return a.Endings.SetEpoch(ctx, authority.EpochCluster, name, c.Describe(ctx, e))
}

// clusterChanged is the change in the journal.
func (a *API) clusterChanged(old, cluster authority.Cluster, how string) []authority.Event {
	e := authority.Event{Target: cluster.Name, Reason: how}
	return e.WithChanges(a.clusters().Changes(old, cluster))
}

// makeCluster holds what was sent to the rule book.
func (a *API) makeCluster(ctx context.Context, m authority.ClusterMetadata) (authority.Cluster, error) {
	cluster, err := authority.NewCluster(m)
	if err != nil {
		return cluster, err
	}
	owners, err := a.keyOwners(ctx)
	if err != nil {
		return cluster, err
	}
	refs := a.references(ctx)
	refs.KeyOwner = func(thumbprint string) (string, error) {
		owner, there := owners[thumbprint]
		if !there {
			return "", authority.ErrNotFound
		}
		return owner, nil
	}
	return cluster, problems(m.CheckReferences(refs))
}

// keyOwners says in whose pasted key set each key is.
func (a *API) keyOwners(ctx context.Context) (map[string]string, error) {
	owners := map[string]string{}
	for _, t := range a.Directory.TrustedIssuers() {
		for _, thumbprint := range t.Metadata().KeyThumbprints() {
			owners[thumbprint] = "trusted issuer " + t.Name // no name of a cluster
		}
	}
	note := func(c authority.Cluster) bool {
		for _, thumbprint := range c.Metadata().KeyThumbprints() {
			owners[thumbprint] = c.Name
		}
		return true
	}
	for _, c := range a.Directory.StaticClusters() {
		note(c)
	}
	return owners, a.clusters().All(ctx, note)
}

// cluster finds a cluster, also a stored one that breaks a rule and is off.
func (a *API) cluster(ctx context.Context, name string) (authority.Cluster, error) {
	cluster, err := a.Directory.Cluster(ctx, name)
	if errors.Is(err, authority.ErrNotFound) {
		cluster, err = a.clusters().Get(ctx, name)
	}
	if errors.Is(err, authority.ErrNotFound) {
		return cluster, api.NotFound("there is no cluster %q", api.Clip(name)).Because(err)
	}
	return cluster, err
}

// storedCluster finds a cluster that may be changed here.
func (a *API) storedCluster(ctx context.Context, name string) (authority.Cluster, error) {
	cluster, err := a.cluster(ctx, name)
	if err == nil && cluster.Source == authority.FromFile {
		return cluster, api.ReadOnly("cluster", name)
	}
	return cluster, err
}

func (a *API) shownCluster(c authority.Cluster) Cluster {
	m := c.Metadata()
	shown := Cluster{
		Name: m.Name, Audience: authority.ClusterAudience(a.Settings().URL, m.Name), Issuer: m.Issuer, JWKS: m.JWKS, JWKSURI: m.JWKSURI,
		APIServer: m.APIServer, CA: m.CA, Credential: string(c.Credential), Pods: m.Pods, TerminatingPods: m.TerminatingPods,
		Audiences: m.Audiences, IntrospectionClients: m.IntrospectionClients, Problems: c.Problems,
		Source: string(c.Source), CreatedAt: shownTime(c.CreatedAt), UpdatedAt: shownTime(c.UpdatedAt),
	}
	if m.Webhook != nil {
		shown.WebhookCaller = m.Webhook.Caller
	}
	return shown
}

func (a *API) listTrustedIssuers(_ context.Context, c *api.Call) (api.Plan, error) {
	return listDeclared(c, a.Directory.TrustedIssuers(), func(t authority.TrustedIssuer) string { return t.Name }, shownIssuer)
}

func shownIssuer(t authority.TrustedIssuer) TrustedIssuer {
	m := t.Metadata()
	return TrustedIssuer{Name: m.Name, Issuer: m.Issuer, TrustDomain: m.TrustDomain, JWKS: m.JWKS, JWKSURI: m.JWKSURI, Audiences: m.Audiences}
}

func (a *API) showTrustedIssuer(_ context.Context, c *api.Call) (api.Plan, error) {
	for _, t := range a.Directory.TrustedIssuers() {
		if t.Name != c.ID {
			continue
		}
		shown := shownIssuer(t)
		if a.IssuerStatus != nil {
			status := a.IssuerStatus(t.Name)
			shown.Status = &status
		}
		return api.Reads(shown), nil
	}
	return api.Plan{}, api.NotFound("there is no trusted issuer %q", api.Clip(c.ID))
}

func (a *API) listPolicies(_ context.Context, c *api.Call) (api.Plan, error) {
	return listDeclared(c, a.Directory.Policies(), func(p authority.Policy) string { return p.Name }, showPolicy)
}

func showPolicy(p authority.Policy) Policy {
	shown := Policy{
		Name: p.Name, When: p.When, Groups: p.Groups, TTL: int64(p.TTL / time.Second), Mode: string(p.Mode),
		From: PolicyFrom{
			Cluster: p.From.Cluster, Namespace: p.From.Namespace, ServiceAccount: p.From.ServiceAccount, TrustedIssuer: p.From.TrustedIssuer,
			Subject: p.From.Subject, UserGroup: p.From.UserGroup, Client: p.From.Client, OnBehalfOf: p.From.OnBehalfOf,
		},
		To: PolicyTo{Cluster: p.To.Cluster, Resource: p.To.Resource, Scopes: p.To.Scopes},
	}
	for _, name := range slices.Sorted(maps.Keys(p.From.Claims)) {
		shown.From.Claims = append(shown.From.Claims, Claim{name, p.From.Claims[name]})
	}
	return shown
}
