// RFC 7009 ends one token at the wish of its client; this ends whatever an
// administrator names, and says first what that is.
package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func (a *API) revokeRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.Revoke, Scope: "grants:write", Event: authority.EventEpochSet, Run: a.revoke,
			Summary: "End a token, a grant, or everything older than now of a client, a user, workloads, or at all. With dry_run: say what that would end.", In: admin.Revoke{}, Out: admin.Revoked{},
		},
	}
}

func (a *API) revoke(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.Revoke](c)
	if err != nil {
		return api.Plan{}, err
	}
	var p api.Plan
	switch named := countTrue(body.Token != "", body.GrantID != "", body.ClientID != "", body.UserID != "", body.Username != "", body.Cluster != "", body.Issuer != "", body.Workload != "", body.Everything); {
	case named != 1:
		return api.Plan{}, api.Invalid("name exactly one of token, grant_id, client_id, user_id, username, cluster, trusted_issuer, workload and everything")
	case body.WithGrant && body.Token == "":
		return api.Plan{}, api.Invalid("with_grant has a meaning with token alone")
	case body.Force && body.GrantID == "":
		return api.Plan{}, api.Invalid("force has a meaning with grant_id alone")
	case body.Token != "":
		p, err = a.revokeToken(ctx, c, body)
	case body.GrantID != "":
		p, err = a.revokeGrant(ctx, c, body.GrantID, body.Force)
	case body.ClientID != "":
		p, err = a.revokeClient(ctx, c, body)
	case body.Cluster != "":
		workloads, wrong := authority.WorkloadsOfCluster(body.Cluster)
		p, err = a.revokeWorkloads(ctx, c, body, "cluster", workloads, wrong)
	case body.Issuer != "":
		workloads, wrong := authority.WorkloadsOfIssuer(body.Issuer)
		p, err = a.revokeWorkloads(ctx, c, body, "trusted_issuer", workloads, wrong)
	case body.Workload != "":
		workloads, wrong := authority.ParseWorkloads(body.Workload)
		p, err = a.revokeWorkloads(ctx, c, body, "workload", workloads, wrong)
	case body.Everything:
		p, err = a.revokeEpoch(ctx, c, body, authority.EpochEverything, "", authority.GrantFilter{}, authority.Event{Target: "everything"})
	default:
		p, err = a.revokeUser(ctx, c, body)
	}
	if err != nil {
		return api.Plan{}, err
	}
	if !body.DryRun {
		return p, nil
	}
	would := p.Answer.(admin.Revoked)
	would.DryRun = true
	return api.Reads(would), nil
}

func (a *API) revokeToken(ctx context.Context, c *api.Call, body admin.Revoke) (api.Plan, error) {
	if strings.HasPrefix(body.Token, string(oauth.PrefixRefreshToken)) {
		grantID, err := a.GrantOf(body.Token)
		if err != nil {
			return api.Plan{}, api.NotFound("this is not a refresh token of this issuer, or it is damaged, so there is nothing to end")
		}
		return a.revokeGrant(ctx, c, grantID.String(), true) // the MAC has proved that it is ours
	}
	token, err := a.Tokens.Authenticate(body.Token)
	if err != nil && !errors.Is(err, issue.ErrRevoked) || len(body.Token) > api.MaxToken {
		return api.Plan{}, api.NotFound("this is not a live access token of this issuer, so there is nothing to end")
	}
	radius := admin.Revoked{Kind: "token", Key: token.ID.String(), Exact: true, ByClient: []admin.ClientCount{}, TokensDieIn: seconds(token.Expires.Sub(c.Now))}
	event := authority.Event{
		Type: authority.EventTokenRevoked, ClientID: token.ClientID, Subject: token.Subject, GrantID: token.GrantID, SessionID: token.SessionID,
		TokenID: token.ID, TokenHash: issue.HashOf(body.Token), ExpiresAt: token.Expires, Target: token.ID.String(), Reason: "by an administrator",
	}
	p := api.Plan{Answer: radius, Events: []authority.Event{event}, End: func(ctx context.Context, events []authority.Event) error {
		return a.Endings.EndToken(ctx, token.ID, token.Expires, events[0])
	}}
	if !body.WithGrant {
		return p, nil
	}
	grant, err := a.revokeGrant(ctx, c, token.GrantID.String(), true)
	if err != nil {
		return api.Plan{}, err
	}
	endToken := p.End
	return api.Plan{Answer: grant.Answer, Events: append(p.Events, grant.Events...), End: func(ctx context.Context, events []authority.Event) error {
		if err := endToken(ctx, events[:1]); err != nil {
			return err
		}
		return grant.End(ctx, events[1:])
	}}, nil
}

// revokeGrant also takes the id of a grant that has no row: what machines get
// for themselves is in the journal alone. An id of which nothing is known is
// most likely mistyped: whoever is told that it has ended would stop looking.
// With ours it is known to be an id of this issuer.
func (a *API) revokeGrant(ctx context.Context, c *api.Call, raw string, ours bool) (api.Plan, error) {
	id, err := authority.ParseID(raw)
	if err != nil {
		return api.Plan{}, api.Invalid("grant_id is not the id of a grant")
	}
	g, err := a.Grants.Grant(ctx, id)
	if errors.Is(err, authority.ErrNotFound) {
		ended := a.Endings.Follower.View.Revoked([]authority.Link{{Kind: authority.RevokeGrant, Key: raw}})
		if !ours && !ended {
			if ours, err = a.recorded(ctx, id); err != nil {
				return api.Plan{}, err
			}
			if !ours {
				return api.Plan{}, api.NotFound("nothing is known here of a grant %q, so nothing was ended. What a machine got for itself has no row, "+
					"and only the journal of the node that issued it knows it; force ends it by its id all the same", api.Clip(raw))
			}
		}
		ttl, err := a.longestTTL(ctx)
		if err != nil {
			return api.Plan{}, err
		}
		radius := admin.Revoked{Kind: "grant", Key: raw, AlreadyEnded: ended, Rowless: true, Exact: true, ByClient: []admin.ClientCount{}, TokensDieIn: seconds(ttl)}
		return a.ending(radius, authority.Event{GrantID: id, Reason: "by an administrator; it has no row"}), nil
	}
	if err != nil {
		return api.Plan{}, err
	}
	radius, err := a.radiusOfGrant(ctx, g, c.Now)
	if err != nil {
		return api.Plan{}, err
	}
	return a.endingGrant(g, radius), nil
}

// recorded says whether this node's journal has a record of a grant. The first
// one is as old as the grant. Where the journal is too long to be searched in
// time, it may: ending too much is the safe side.
func (a *API) recorded(ctx context.Context, id authority.ID) (bool, error) {
	var found admin.Why
	born := id.Time()
	err := a.records(ctx, &found, query.Query{GrantID: id.String(), Since: born.Add(-time.Minute), Until: born.Add(10 * time.Minute)})
	return len(found.Records) > 0 || found.Partial, err
}

func (a *API) endingGrant(g authority.Grant, radius admin.Revoked) api.Plan {
	return a.ending(radius, authority.Event{
		GrantID: g.ID, ClientID: g.ClientID, Subject: g.Subject, SessionID: g.SessionID,
		Reason: fmt.Sprintf("by an administrator, with %d active descendants", max(0, radius.ActiveGrants-1)),
	})
}

// ending is the api.Plan to end the grant of the event, with a row or without.
func (a *API) ending(radius admin.Revoked, e authority.Event) api.Plan {
	e.Type, e.Target = authority.EventGrantEnded, e.GrantID.String()
	return api.Plan{Answer: radius, Events: []authority.Event{e}, End: func(ctx context.Context, events []authority.Event) error {
		_, err := a.Endings.EndGrant(ctx, e.GrantID, events[0])
		return err
	}}
}

func (a *API) revokeClient(ctx context.Context, c *api.Call, body admin.Revoke) (api.Plan, error) {
	id := body.ClientID
	if !api.Printable(id, api.MaxID) {
		return api.Plan{}, api.Invalid("client_id is not an id")
	}
	filter := authority.GrantFilter{ClientID: id}
	if _, err := a.client(ctx, id); err != nil {
		return api.Plan{}, err
	}
	return a.revokeEpoch(ctx, c, body, authority.EpochClient, id, filter, authority.Event{ClientID: id, Target: id})
}

func (a *API) revokeUser(ctx context.Context, c *api.Call, body admin.Revoke) (api.Plan, error) {
	if !api.Printable(body.UserID+body.Username, api.MaxID) {
		return api.Plan{}, api.Invalid("user_id or username is not an id")
	}
	user, err := a.Directory.User(ctx, body.UserID)
	if body.Username != "" {
		user, err = a.Directory.UserByName(ctx, body.Username)
	}
	if errors.Is(err, authority.ErrNotFound) {
		return api.Plan{}, api.NotFound("there is no user %q", api.Clip(body.UserID+body.Username))
	}
	if err != nil {
		return api.Plan{}, err
	}
	filter := authority.GrantFilter{SubjectID: user.ID}
	return a.revokeEpoch(ctx, c, body, authority.EpochUser, user.ID, filter, authority.Event{Subject: a.subject(user.ID), Target: user.ID})
}

// revokeWorkloads also ends those of a cluster or an issuer that is gone: one that
// comes back under its name must not find them alive. A name that was never there
// ends nothing, and the radius shows that.
func (a *API) revokeWorkloads(ctx context.Context, c *api.Call, body admin.Revoke, field string, w authority.Workloads, wrong *authority.Problem) (api.Plan, error) {
	if wrong != nil {
		wrong.Field = field
		return api.Plan{}, authority.Problems{*wrong}
	}
	return a.revokeEpoch(ctx, c, body, w.Epoch, w.Key, w.Grants, authority.Event{Target: string(w.Epoch) + " " + w.Key})
}

func (a *API) revokeEpoch(ctx context.Context, c *api.Call, body admin.Revoke, kind authority.RevocationKind, key string, f authority.GrantFilter, e authority.Event) (api.Plan, error) {
	radius, err := a.radius(ctx, f, body.DryRun, c.Now)
	if err != nil {
		return api.Plan{}, err
	}
	radius.Kind, radius.Key = string(kind), key
	atLeast := ""
	if radius.AtLeast {
		atLeast = "at least "
	}
	e.Type, e.Reason = authority.EventEpochSet, fmt.Sprintf("%s: everything older than now, %s%d active grants", kind, atLeast, radius.ActiveGrants)
	return api.Plan{Answer: radius, Events: []authority.Event{e}, End: func(ctx context.Context, events []authority.Event) error {
		return a.Endings.SetEpoch(ctx, kind, key, events[0])
	}}, nil
}

// radius looks at what an epoch would end. Ten million grants take seconds to
// count, in which whoever stole their tokens uses them: so all are counted only
// where somebody has asked how many there are.
func (a *API) radius(ctx context.Context, f authority.GrantFilter, count bool, now time.Time) (admin.Revoked, error) {
	f.ActiveOnly, f.AliveAt = true, now
	tally := tally{}
	partial, err := a.eachGrant(ctx, f, "", func(g authority.Grant) {
		if a.alive(g, now) {
			tally.add(g)
		}
	})
	if err != nil {
		return admin.Revoked{}, err
	}
	r := tally.radius()
	if r.Exact, r.AtLeast = !partial, partial && !count; partial && count {
		n, err := a.Grants.CountGrants(ctx, f)
		if err != nil {
			return admin.Revoked{}, err
		}
		r.ActiveGrants = int64(n)
	}
	ttl, err := a.longestTTL(ctx)
	r.TokensDieIn = seconds(ttl)
	return r, err
}

// radiusOfGrant looks at a grant and its descendants, which are newer and carry
// its id. They are looked for among the grants of its subject.
func (a *API) radiusOfGrant(ctx context.Context, g authority.Grant, now time.Time) (admin.Revoked, error) {
	tally := tally{}
	if a.alive(g, now) {
		tally.add(g)
	}
	partial, err := a.eachGrant(ctx, authority.GrantFilter{SubjectID: g.Subject.ID}, g.ID.String(), func(other authority.Grant) {
		if other.ComesFrom(g.ID) && a.alive(other, now) {
			tally.add(other)
		}
	})
	if err != nil {
		return admin.Revoked{}, err
	}
	r := tally.radius()
	r.Kind, r.Key, r.Exact, r.AtLeast = "grant", g.ID.String(), !partial, partial
	r.AlreadyEnded = g.State == authority.GrantEnded
	ttl, err := a.longestTTL(ctx)
	r.TokensDieIn = seconds(ttl)
	return r, err
}

type tally struct {
	byClient       map[string]int64
	total          int64
	oldest, newest time.Time
}

func (t *tally) add(g authority.Grant) {
	if t.byClient == nil {
		t.byClient = map[string]int64{}
	}
	t.byClient[g.ClientID]++
	t.total++
	if t.oldest.IsZero() || g.CreatedAt.Before(t.oldest) {
		t.oldest = g.CreatedAt
	}
	if g.CreatedAt.After(t.newest) {
		t.newest = g.CreatedAt
	}
}

func (t *tally) radius() admin.Revoked {
	r := admin.Revoked{ActiveGrants: t.total, Exact: true, ByClient: []admin.ClientCount{}, Oldest: shownTime(t.oldest), Newest: shownTime(t.newest)}
	for id, n := range t.byClient {
		r.ByClient = append(r.ByClient, admin.ClientCount{ClientID: id, ActiveGrants: n})
	}
	slices.SortFunc(r.ByClient, func(x, y admin.ClientCount) int {
		if x.ActiveGrants != y.ActiveGrants {
			return int(y.ActiveGrants - x.ActiveGrants)
		}
		return strings.Compare(x.ClientID, y.ClientID)
	})
	r.ByClient = r.ByClient[:min(len(r.ByClient), 100)]
	return r
}

// longestTTL is the longest life that an access token of now can have.
func (a *API) longestTTL(ctx context.Context) (time.Duration, error) {
	ttl := a.Settings().AccessTTL
	for _, r := range a.Directory.StaticResources() {
		ttl = max(ttl, r.AccessTTL)
	}
	err := a.resources().All(ctx, func(r authority.Resource) bool {
		ttl = max(ttl, r.AccessTTL)
		return true
	})
	return min(ttl, authority.MaxTokenTTL), err
}

func seconds(d time.Duration) int64 { return int64(max(0, d) / time.Second) }

func countTrue(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}
