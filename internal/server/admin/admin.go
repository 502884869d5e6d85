// Package admin is the administration API: JSON over the admin listener, with
// access tokens of this issuer's own for the resource urn:signalbox:admin.
//
// One table (routes.go) says which routes there are, which scope each needs
// and what each is in the journal; it serves, and it is printed as OpenAPI.
// Below transport every route passes API.act, which asks for permission and
// writes the journal, so that no handler can forget either.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

// API serves /admin/v1/. All fields are required.
type API struct {
	Settings  func() authority.Issuer
	Directory *authority.Directory  // finds what the file and the database hold
	Store     authority.ObjectStore // changes what the database holds
	Grants    authority.GrantStore
	Tokens    *issue.Reader
	Endings   *revocation.Endings
	// GrantOf reads a refresh token of ours, of whatever generation.
	GrantOf func(refreshToken string) (authority.ID, error)

	Keys      func() []authority.Key                                            // keys.Ring.Keys
	RotateKey func(ctx context.Context, alg jose.Algorithm, actor string) error // keys.Ring.Rotate
	RemoveKey func(ctx context.Context, kid, actor string) error                // keys.Ring.Remove

	HashPassword func(password string) (string, error) // password.Hash

	// Record returns when the event is on disk.
	Record func(ctx context.Context, e authority.Event) error
	// Tally notes what anybody can cause without a token, so that nobody
	// can fill the disk or make the journal sync for every request.
	Tally func(e authority.Event)
	// Journal and JournalDir are for reading; Record writes.
	Journal    *journal.Journal
	JournalDir string
	Node       string // the name under which this node keeps its journal

	Now func() time.Time

	description json.RawMessage // what /openapi.json answers
}

// call is one request after transport: who asks, and what was sent.
type call struct {
	route *route
	token *issue.AccessToken
	id    string // the {id} of the path
	query httpx.Params
	page  authority.Page
	body  []byte
	now   time.Time
}

// plan is what a route will do, once everything about the request has been
// checked. Making a plan changes nothing.
type plan struct {
	answer any                                             // of a route that reads
	stream func(ctx context.Context, emit emit) error      // of a route that follows
	apply  func(ctx context.Context) (answer any, e error) // of a route that changes something
	// end is apply for a route that only ends things. It gets the plan's events,
	// complete, and hands them to Endings, which records what has ended.
	end func(ctx context.Context, events []authority.Event) error

	events []authority.Event // what goes into the journal with apply; the type may be left to the route
	// endsAccess turns the order round: what takes access away is done first
	// and recorded then, since a full disk must not protect a thief.
	endsAccess bool
}

// emit writes one record of a stream and returns when it has left.
type emit func(record any) error

func reads(answer any) plan { return plan{answer: answer} }

// act is the road of every route: who asks and may they; what do they want;
// on the record; do it. What changes something is recorded before it is done:
// a record too many does no harm, a change without one does.
func (a *API) act(ctx context.Context, rt *route, c *call, read func() error, header http.Header) (plan, error) {
	if rt.scope != "" {
		token, err := a.authenticate(ctx, header)
		if err != nil {
			return plan{}, a.refuse(ctx, rt, nil, err)
		}
		c.token = token
		if !token.Scopes.Has(rt.scope) {
			return plan{}, a.refuse(ctx, rt, token, errScope(rt.scope))
		}
	}
	// Only now: who has no token cannot make us read a body.
	if err := read(); err != nil {
		return plan{}, err
	}
	p, err := rt.run(a, ctx, c)
	if err != nil {
		if isForbidden(err) {
			return plan{}, a.refuse(ctx, rt, c.token, err)
		}
		return plan{}, err
	}
	if p.apply == nil && p.end == nil {
		return p, nil
	}
	// A caller that hangs up does not leave a change half done.
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	for i := range p.events {
		p.events[i] = c.describe(ctx, p.events[i])
	}
	if err := a.do(ctx, &p); err != nil {
		return plan{}, err
	}
	return p, nil
}

// do makes the change and its record, in the plan's order. A change that fails
// is recorded as that, since some of it may be done.
func (a *API) do(ctx context.Context, p *plan) (err error) {
	switch {
	case p.end != nil:
		err = p.end(ctx, p.events)
	case p.endsAccess:
		p.answer, err = p.apply(ctx)
	default:
		if err := a.record(ctx, p.events); err != nil {
			return unavailable("nothing was changed, since it could not be recorded").because(err)
		}
		p.answer, err = p.apply(ctx)
	}
	if err == nil && p.endsAccess {
		if err = a.record(ctx, p.events); err != nil {
			err = fmt.Errorf("%w: %w", revocation.ErrUnrecorded, err)
		}
	}
	if errors.Is(err, revocation.ErrUnrecorded) {
		return unavailable("access was ended, but that could not be recorded").because(err)
	}
	if err != nil {
		failed := p.events
		for i := range failed {
			failed[i].Error, failed[i].Reason = errorOf(err).Code, "failed, and may be done in part: "+failed[i].Reason
		}
		return errors.Join(err, a.record(ctx, failed))
	}
	return nil
}

func (a *API) record(ctx context.Context, events []authority.Event) error {
	for _, e := range events {
		if err := a.Record(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// describe fills in what is the same for every event of a request.
func (c *call) describe(ctx context.Context, e authority.Event) authority.Event {
	if e.Type == "" {
		e.Type = c.route.event
	}
	request := httpx.RequestOf(ctx)
	e.At, e.RequestID, e.Remote = c.now, request.ID, request.Remote
	e.Actor = c.actor()
	if c.token.Subject.Kind == authority.SubjectUser {
		e.Reason = join(e.Reason, "through client "+c.token.ClientID)
	}
	return e
}

// actor is who asks, in the journal.
func (c *call) actor() string { return c.token.Subject.ID }

func join(reason, more string) string {
	if reason == "" {
		return more
	}
	return reason + "; " + more
}

// refuse records a refusal and returns it. A caller that we know is recorded
// at once; one that we do not know, later and in bulk.
func (a *API) refuse(ctx context.Context, rt *route, token *issue.AccessToken, err error) error {
	request := httpx.RequestOf(ctx)
	if errorOf(err).Status == http.StatusServiceUnavailable {
		return err
	}
	e := authority.Event{
		Type: authority.EventAdminRefused, At: a.Now(), RequestID: request.ID, Remote: request.Remote,
		Error: errorOf(err).Code, Reason: errorOf(err).Description, Target: rt.method + " " + rt.path,
	}
	if token == nil {
		a.Tally(e)
		return err
	}
	e.Actor, e.ClientID, e.TokenID = token.Subject.ID, token.ClientID, token.ID
	if failed := a.Record(ctx, e); failed != nil {
		return unavailable("the refusal could not be recorded").because(failed)
	}
	return err
}

// authenticate finds the caller's token: ours, alive, and meant for this API
// (RFC 6750 §2.1, RFC 9068 §4). The accounts behind it are asked too.
func (a *API) authenticate(ctx context.Context, header http.Header) (*issue.AccessToken, error) {
	raw, err := bearer(header)
	if err != nil {
		return nil, err
	}
	token, _, err := a.Tokens.Accept(ctx, raw, authority.AdminResource)
	switch {
	case errors.Is(err, issue.ErrAudience):
		return nil, errToken("the access token is not meant for the resource " + authority.AdminResource)
	case errors.Is(err, authority.ErrEnded):
		return nil, errToken("the client or the user of the access token no longer exists or is disabled").because(err)
	case errors.Is(err, issue.ErrInactive):
		return nil, errToken("the access token is not valid, has expired or was revoked").because(err)
	case err != nil:
		return nil, err
	}
	return token, nil
}

// mayHandOut stops an administrator from giving a client more of this API
// than he has himself: clients:write would otherwise be every scope.
func mayHandOut(token *issue.AccessToken, c authority.Client) error {
	if !c.MayReach(authority.AdminResource) {
		return nil
	}
	outside, is := c.Scopes.Intersect(authority.AdminScopes).FirstOutside(token.Scopes)
	if !is {
		return nil
	}
	e := errScope(outside)
	e.Description = "the client has the scope " + outside + " of this API, and the access token has not: nobody can hand out more than he has"
	return e
}

func isForbidden(err error) bool { return errorOf(err).Code == string(oauth.InsufficientScope) }
