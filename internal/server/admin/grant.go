package admin

import (
	"context"
	"errors"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
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

// Subject is whom a grant is about, as in the journal.
type Subject = query.Subject

// GrantWithChildren is a grant and what was derived from it.
type GrantWithChildren struct {
	Grant
	Children []Grant `json:"children"`
	Partial  bool    `json:"partial,omitempty" doc:"There may be more children: the subject has too many grants to look at all."`
}

func (a *API) listGrants(ctx context.Context, c *call) (plan, error) {
	filter := authority.GrantFilter{ClientID: c.query.Get("client_id"), SubjectID: c.query.Get("subject")}
	for _, id := range []string{filter.ClientID, filter.SubjectID} {
		if id != "" && !printable(id, maxID) {
			return plan{}, invalid("client_id or subject is not an id")
		}
	}
	switch c.query.Get("active") {
	case "", "false":
	case "true":
		filter.ActiveOnly, filter.AliveAt = true, c.now
	default:
		return plan{}, invalid("active must be true or false")
	}
	if c.page.After != "" {
		if _, err := authority.ParseID(c.page.After); err != nil {
			return plan{}, invalid("after must be the next of the page before")
		}
	}
	grants, err := a.Grants.Grants(ctx, filter, c.page)
	if err != nil {
		return plan{}, err
	}
	page := Page[Grant]{Items: []Grant{}}
	if len(grants) == c.page.Limit {
		page.Next = cursor(grants[len(grants)-1].ID.String())
	}
	for _, g := range grants {
		shown := a.showing(g, c.now)
		if !filter.ActiveOnly || shown.Alive { // an epoch leaves rows as they are
			page.Items = append(page.Items, shown)
		}
	}
	return reads(page), nil
}

func (a *API) showGrant(ctx context.Context, c *call) (plan, error) {
	g, err := a.grant(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	shown := GrantWithChildren{Grant: a.showing(g, c.now), Children: []Grant{}}
	partial, err := a.eachGrant(ctx, authority.GrantFilter{SubjectID: g.Subject.ID}, g.ID.String(), func(child authority.Grant) {
		if n := len(child.Lineage); n > 0 && child.Lineage[n-1].GrantID == g.ID {
			shown.Children = append(shown.Children, a.showing(child, c.now))
		}
	})
	shown.Partial = partial
	return reads(shown), err
}

func (a *API) endGrant(ctx context.Context, c *call) (plan, error) {
	g, err := a.grant(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	radius, err := a.radiusOfGrant(ctx, g, c.now)
	if err != nil {
		return plan{}, err
	}
	return a.endingGrant(g, radius), nil
}

// grant finds a grant by the id in a path or a body.
func (a *API) grant(ctx context.Context, id string) (authority.Grant, error) {
	parsed, err := authority.ParseID(id)
	if err != nil {
		return authority.Grant{}, notFound("there is no grant %q", clip(id))
	}
	g, err := a.Grants.Grant(ctx, parsed)
	if errors.Is(err, authority.ErrNotFound) {
		return g, notFound("there is no standing grant %q", clip(id))
	}
	return g, err
}

// eachGrant walks over grants that are newer than after. It gives up, and
// says so, after so many that the answer would take too long.
func (a *API) eachGrant(ctx context.Context, f authority.GrantFilter, after string, yield func(authority.Grant)) (partial bool, err error) {
	const pages = 20
	page := authority.Page{After: after, Limit: maxPage}
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

func (a *API) showing(g authority.Grant, now time.Time) Grant {
	shown := Grant{
		GrantID: g.ID.String(), ClientID: g.ClientID,
		Subject: Subject{Issuer: g.Subject.Issuer, ID: g.Subject.ID, Kind: string(g.Subject.Kind)},
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
		shown.Evidence = &Evidence{string(g.Evidence.Kind), g.Evidence.Key}
	}
	if g.Refresh.Generation > 0 {
		shown.Refreshes = int64(g.Refresh.Generation) - 1
	}
	return shown
}
