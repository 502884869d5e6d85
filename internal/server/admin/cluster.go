// Kubernetes clusters, and what only the file has: trusted issuers and trust
// policies.
package admin

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// setCluster changes what was sent.
func setCluster(m *authority.ClusterMetadata, f admin.ClusterFields) {
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

func (a *API) clusterRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.ListClusters, Scope: "clusters:read", Run: a.listClusters,
			Summary: "List clusters: those of the configuration file first.", Query: api.Query(admin.Paging{}), Out: admin.Page[admin.Cluster]{},
		},
		{
			Operation: operation.CreateCluster, Scope: "clusters:write", Event: authority.EventClusterChanged, Run: a.createCluster,
			Summary: "Register a cluster. What the workloads of an earlier cluster of this name still have ends.", In: admin.NewCluster{}, Out: admin.Cluster{}, Status: http.StatusCreated,
		},
		{
			Operation: operation.ShowCluster, Scope: "clusters:read", Run: a.showCluster,
			Summary: "Show a cluster and how it is doing.", Out: admin.Cluster{},
		},
		{
			Operation: operation.UpdateCluster, Scope: "clusters:write", Event: authority.EventClusterChanged, Run: a.updateCluster,
			Summary: "Change a cluster: what is sent replaces what was there. If something goes that made its tokens good, all that came from them ends.", In: admin.ClusterFields{}, Out: admin.Cluster{},
		},
		{
			Operation: operation.DeleteCluster, Scope: "clusters:write", Event: authority.EventClusterChanged, Run: a.deleteCluster,
			Summary: "Delete a cluster, and end everything that its workloads have.", Status: http.StatusNoContent,
		},
		{
			Operation: operation.ListTrustedIssuers, Scope: "clusters:read", Run: a.listTrustedIssuers,
			Summary: "List the trusted issuers of the configuration file.", Query: api.Query(admin.Paging{}), Out: admin.Page[admin.TrustedIssuer]{},
		},
		{
			Operation: operation.ShowTrustedIssuer, Scope: "clusters:read", Run: a.showTrustedIssuer,
			Summary: "Show a trusted issuer and how it is doing.", Out: admin.TrustedIssuer{},
		},
		{
			Operation: operation.ListPolicies, Scope: "clusters:read", Run: a.listPolicies,
			Summary: "List the trust policies of the configuration file.", Query: api.Query(admin.Paging{}), Out: admin.Page[admin.Policy]{},
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
	body, err := api.Decode[admin.NewCluster](c)
	if err != nil {
		return api.Plan{}, err
	}
	m := authority.ClusterMetadata{Name: body.Name}
	setCluster(&m, body.ClusterFields)
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
	body, err := api.Decode[admin.ClusterFields](c)
	if err != nil {
		return api.Plan{}, err
	}
	old, err := a.storedCluster(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	m := old.Metadata()
	setCluster(&m, body)
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

func (a *API) shownCluster(c authority.Cluster) admin.Cluster {
	m := c.Metadata()
	shown := admin.Cluster{
		Name: m.Name, Audience: authority.ClusterAudience(a.Settings().URL, m.Name), Issuer: m.Issuer, JWKS: m.JWKS, JWKSURI: m.JWKSURI,
		APIServer: m.APIServer, CA: m.CA, Credential: string(c.Credential), Pods: m.Pods, TerminatingPods: m.TerminatingPods,
		Audiences: m.Audiences, IntrospectionClients: m.IntrospectionClients, Problems: shownProblems(c.Problems),
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

func shownIssuer(t authority.TrustedIssuer) admin.TrustedIssuer {
	m := t.Metadata()
	return admin.TrustedIssuer{Name: m.Name, Issuer: m.Issuer, TrustDomain: m.TrustDomain, JWKS: m.JWKS, JWKSURI: m.JWKSURI, Audiences: m.Audiences}
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

func showPolicy(p authority.Policy) admin.Policy {
	shown := admin.Policy{
		Name: p.Name, When: p.When, Groups: p.Groups, TTL: int64(p.TTL / time.Second), Mode: string(p.Mode),
		From: admin.PolicyFrom{
			Cluster: p.From.Cluster, Namespace: p.From.Namespace, ServiceAccount: p.From.ServiceAccount, TrustedIssuer: p.From.TrustedIssuer,
			Subject: p.From.Subject, UserGroup: p.From.UserGroup, Client: p.From.Client, OnBehalfOf: p.From.OnBehalfOf,
		},
		To: admin.PolicyTo{Cluster: p.To.Cluster, Resource: p.To.Resource, Scopes: p.To.Scopes},
	}
	for _, name := range slices.Sorted(maps.Keys(p.From.Claims)) {
		shown.From.Claims = append(shown.From.Claims, admin.Claim{Name: name, Value: p.From.Claims[name]})
	}
	return shown
}
