package admin

import (
	"context"
	"errors"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func (a *API) grantRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.ListGrants, Scope: "grants:read", Run: a.listGrants,
			Summary: "List grants, oldest first.", Query: api.Query(admin.GrantFilter{}, admin.Paging{}), Out: admin.Page[admin.Grant]{},
		},
		{
			Operation: operation.ShowGrant, Scope: "grants:read", Run: a.showGrant,
			Summary: "Show a grant, what it came from and what came from it.", Out: admin.GrantWithFamily{},
		},
		{
			Operation: operation.EndGrant, Scope: "grants:write", Event: authority.EventGrantEnded, Run: a.endGrant,
			Summary: "End a grant with all its descendants and their tokens.", Out: admin.Revoked{},
		},
	}
}

func (a *API) listGrants(ctx context.Context, c *api.Call) (api.Plan, error) {
	asked, err := api.Filter[admin.GrantFilter](c)
	if err != nil {
		return api.Plan{}, err
	}
	filter := authority.GrantFilter{ClientID: asked.ClientID, SubjectID: asked.Subject}
	for _, id := range []string{filter.ClientID, filter.SubjectID} {
		if id != "" && !api.Printable(id, api.MaxID) {
			return api.Plan{}, api.Invalid("client_id or subject is not an id")
		}
	}
	if err := filterWorkloads(&filter, asked); err != nil {
		return api.Plan{}, err
	}
	if asked.Active {
		filter.ActiveOnly, filter.AliveAt = true, c.Now
	}
	if c.Page.After != "" {
		if _, err := authority.ParseID(c.Page.After); err != nil {
			return api.Plan{}, api.Invalid("after must be the next of the page before")
		}
	}
	grants, err := a.Grants.Grants(ctx, filter, c.Page)
	if err != nil {
		return api.Plan{}, err
	}
	page := admin.Page[admin.Grant]{Items: []admin.Grant{}}
	if len(grants) == c.Page.Limit {
		page.Next = api.Cursor(grants[len(grants)-1].ID.String())
	}
	for _, g := range grants {
		shown := a.showing(g, c.Now)
		if !filter.ActiveOnly || shown.Alive { // an epoch leaves rows as they are
			page.Items = append(page.Items, shown)
		}
	}
	return api.Reads(page), nil
}

func (a *API) showGrant(ctx context.Context, c *api.Call) (api.Plan, error) {
	g, err := a.grant(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	shown := admin.GrantWithFamily{Grant: a.showing(g, c.Now), Descendants: []admin.Grant{}}
	for i, ancestor := range g.Lineage {
		one, err := a.ancestor(ctx, ancestor, g.Lineage[:i], c.Now)
		if err != nil {
			return api.Plan{}, err
		}
		shown.Ancestors = append(shown.Ancestors, one)
	}
	// A descendant is newer than its ancestors and about the same subject.
	more := false
	shown.Partial, err = a.eachGrant(ctx, authority.GrantFilter{SubjectID: g.Subject.ID}, g.ID.String(), func(other authority.Grant) {
		switch {
		case !other.ComesFrom(g.ID):
		case len(shown.Descendants) == admin.MaxPage:
			more = true
		default:
			shown.Descendants = append(shown.Descendants, a.showing(other, c.Now))
		}
	})
	shown.Partial = shown.Partial || more
	return api.Reads(shown), err
}

// ancestor shows a grant of a lineage. Without a row its life is what is known to
// have ended: it, what it came from, its client.
func (a *API) ancestor(ctx context.Context, of authority.Ancestor, lineage []authority.Ancestor, now time.Time) (admin.Ancestor, error) {
	shown := admin.Ancestor{GrantID: of.GrantID.String(), ClientID: of.ClientID}
	g, err := a.Grants.Grant(ctx, of.GrantID)
	switch {
	case errors.Is(err, authority.ErrNotFound):
		rowless := authority.Grant{ID: of.GrantID, ClientID: of.ClientID, Lineage: lineage, CreatedAt: of.GrantID.Time()}
		shown.Rowless, shown.Alive = true, !a.Endings.Follower.View.Revoked(rowless.Links())
	case err != nil:
		return shown, err
	default:
		shown.State, shown.Alive = string(g.State), a.alive(g, now)
	}
	return shown, nil
}

// filterWorkloads reads the parameters that name workloads.
func filterWorkloads(filter *authority.GrantFilter, asked admin.GrantFilter) error {
	cluster, namespace, account, issuer := asked.Cluster, asked.Namespace, asked.ServiceAccount, asked.TrustedIssuer
	var named authority.Workloads
	var wrong *authority.Problem
	switch {
	case namespace != "" && cluster == "", account != "" && namespace == "":
		return api.Invalid("namespace needs cluster, and service_account needs both")
	case countTrue(filter.SubjectID != "", cluster != "", issuer != "") > 1:
		return api.Invalid("name one of subject, cluster and trusted_issuer")
	case namespace != "":
		named, wrong = authority.WorkloadsOfNamespace(cluster, namespace, account)
	case cluster != "":
		named, wrong = authority.WorkloadsOfCluster(cluster)
	case issuer != "":
		named, wrong = authority.WorkloadsOfIssuer(issuer)
	default:
		return nil
	}
	if wrong != nil {
		return api.Invalid("cluster, namespace, service_account or trusted_issuer: %v", wrong)
	}
	filter.SubjectPrefix = named.Grants.SubjectPrefix
	if named.Grants.SubjectID != "" {
		filter.SubjectID = named.Grants.SubjectID
	}
	return nil
}

func (a *API) endGrant(ctx context.Context, c *api.Call) (api.Plan, error) {
	g, err := a.grant(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	radius, err := a.radiusOfGrant(ctx, g, c.Now)
	if err != nil {
		return api.Plan{}, err
	}
	return a.endingGrant(g, radius), nil
}

// grant finds a grant by the id in a path or a body.
func (a *API) grant(ctx context.Context, id string) (authority.Grant, error) {
	parsed, err := authority.ParseID(id)
	if err != nil {
		return authority.Grant{}, api.NotFound("there is no grant %q", api.Clip(id))
	}
	g, err := a.Grants.Grant(ctx, parsed)
	if errors.Is(err, authority.ErrNotFound) {
		return g, api.NotFound("there is no standing grant %q", api.Clip(id))
	}
	return g, err
}

// eachGrant walks over grants that are newer than after. It gives up, and
// says so, after so many that the answer would take too long.
func (a *API) eachGrant(ctx context.Context, f authority.GrantFilter, after string, yield func(authority.Grant)) (partial bool, err error) {
	const pages = 20
	page := authority.Page{After: after, Limit: admin.MaxPage}
	for range pages {
		grants, err := a.Grants.Grants(ctx, f, page)
		if err != nil {
			return false, err
		}
		for _, g := range grants {
			yield(g)
		}
		if len(grants) < page.Limit {
			return false, nil
		}
		page.After = grants[len(grants)-1].ID.String()
	}
	return true, nil
}

// alive asks the grant itself and everything that may have ended it since.
func (a *API) alive(g authority.Grant, now time.Time) bool {
	return g.Alive(now) && !a.Endings.Follower.View.Revoked(g.Links())
}

func (a *API) showing(g authority.Grant, now time.Time) admin.Grant {
	shown := admin.Grant{
		GrantID: g.ID.String(), ClientID: g.ClientID,
		Subject: admin.Subject{Issuer: g.Subject.Issuer, ID: g.Subject.ID, Kind: string(g.Subject.Kind)},
		Scope:   g.Scopes.String(), Resources: g.Resources, JKT: g.Confirmation.JKT,
		SessionID: g.SessionID.String(), AuthTime: shownTime(g.AuthTime), AMR: g.AMR,
		State: string(g.State), Alive: a.alive(g, now),
		CreatedAt: shownTime(g.CreatedAt), Refreshed: shownTime(g.Refresh.RotatedAt), ExpiresAt: shownTime(g.ExpiresAt),
		EndedAt: shownTime(g.EndedAt), EndReason: g.EndReason,
	}
	for _, ancestor := range g.Lineage {
		shown.Lineage = append(shown.Lineage, ancestor.GrantID.String())
	}
	if !g.Evidence.IsZero() {
		shown.Evidence = &admin.Evidence{Kind: string(g.Evidence.Kind), Key: g.Evidence.Key}
	}
	if g.Refresh.Generation > 0 {
		shown.Refreshes = int64(g.Refresh.Generation) - 1
	}
	return shown
}
