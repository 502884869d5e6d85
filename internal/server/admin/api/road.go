// Package api is the road of every route of the admin API: who asks and may
// they; what do they want; on the record; do it; answer.
//
// A Route says which path it has, which scope it needs, what it is in the
// journal, and what is sent and answered. The same row serves and is printed as
// OpenAPI. Below transport every route passes Server.act, which asks for
// permission and writes the journal, so that no handler can forget either.
package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

// Route is one row of a table: what serves a request, and what OpenAPI says
// about it.
type Route struct {
	operation.Operation
	Scope string              // what the caller's token must have; empty for the description alone
	Event authority.EventType // what the change is in the journal; empty for reading
	Run   func(ctx context.Context, c *Call) (Plan, error)

	Summary string
	Query   []Parameter
	In, Out any // the bodies, as values of their types; nil for none
	Status  int // zero means 200
	Stream  bool
}

// Parameter is one parameter of the query.
type Parameter = operation.Parameter

// Query lists the parameters that filters are made of.
func Query(filters ...any) (all []Parameter) {
	for _, f := range filters {
		all = append(all, operation.Parameters(f)...)
	}
	return all
}

func (rt *Route) hasID() bool { return strings.Contains(rt.Path, "{id}") }

// Call is one request after transport: who asks, and what was sent.
type Call struct {
	Token *issue.AccessToken
	ID    string // the {id} of the path
	Query httpx.Params
	Page  authority.Page
	Now   time.Time

	body  []byte
	route *Route
}

// Plan is what a route will do, once everything about the request has been
// checked. Making a plan changes nothing.
type Plan struct {
	Answer any                                             // of a route that reads
	Stream func(ctx context.Context, emit Emit) error      // of a route that follows
	Apply  func(ctx context.Context) (answer any, e error) // of a route that changes something
	// End is Apply for a route that only ends things. It gets the plan's events,
	// complete, and hands them to Endings, which records what has ended.
	End func(ctx context.Context, events []authority.Event) error

	Events []authority.Event // what goes into the journal with Apply; the type may be left to the route
	// EndsAccess turns the order round: what takes access away is done first
	// and recorded then, since a full disk must not protect a thief.
	EndsAccess bool
}

// Emit writes one record of a stream and returns when it has left.
type Emit func(record any) error

// Reads is the plan of a route that changes nothing.
func Reads(answer any) Plan { return Plan{Answer: answer} }

// Server serves routes. All fields are required.
type Server struct {
	Tokens *issue.Reader
	// Record returns when the event is on disk.
	Record func(ctx context.Context, e authority.Event) error
	// Tally notes what anybody can cause without a token, so that nobody
	// can fill the disk or make the journal sync for every request.
	Tally func(e authority.Event)
	Now   func() time.Time
}

// act is the road of every route. What changes something is recorded before it
// is done: a record too many does no harm, a change without one does.
func (s *Server) act(ctx context.Context, rt *Route, c *Call, read func() error, header http.Header) (Plan, error) {
	if rt.Scope != "" {
		token, err := s.authenticate(ctx, header)
		if err != nil {
			return Plan{}, s.refuse(ctx, rt, nil, err)
		}
		c.Token = token
		if !token.Scopes.Has(rt.Scope) {
			return Plan{}, s.refuse(ctx, rt, token, LacksScope(rt.Scope))
		}
	}
	// Only now: a caller without a token cannot make us read a body.
	if err := read(); err != nil {
		return Plan{}, err
	}
	p, err := rt.Run(ctx, c)
	if err != nil {
		if isForbidden(err) {
			return Plan{}, s.refuse(ctx, rt, c.Token, err)
		}
		return Plan{}, err
	}
	if p.Apply == nil && p.End == nil {
		return p, nil
	}
	// A caller that hangs up does not leave a change half done.
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	for i := range p.Events {
		p.Events[i] = c.Describe(ctx, p.Events[i])
	}
	if err := s.do(ctx, &p); err != nil {
		return Plan{}, err
	}
	return p, nil
}

// do makes the change and its record, in the plan's order. A change that fails
// is recorded as that, since some of it may be done.
func (s *Server) do(ctx context.Context, p *Plan) (err error) {
	switch {
	case p.End != nil:
		err = p.End(ctx, p.Events)
	case p.EndsAccess:
		p.Answer, err = p.Apply(ctx)
	default:
		if err := s.record(ctx, p.Events); err != nil {
			return Unavailable("nothing was changed, since it could not be recorded").Because(err)
		}
		p.Answer, err = p.Apply(ctx)
	}
	if err == nil && p.EndsAccess {
		if err = s.record(ctx, p.Events); err != nil {
			err = fmt.Errorf("%w: %w", revocation.ErrUnrecorded, err)
		}
	}
	if errors.Is(err, revocation.ErrUnrecorded) {
		return Unavailable("access was ended, but that could not be recorded").Because(err)
	}
	if err != nil {
		failed := p.Events
		for i := range failed {
			failed[i].Error, failed[i].Reason = errorOf(err).Code, "failed, and may be done in part: "+failed[i].Reason
		}
		return errors.Join(err, s.record(ctx, failed))
	}
	return nil
}

func (s *Server) record(ctx context.Context, events []authority.Event) error {
	for _, e := range events {
		if err := s.Record(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// Describe fills in what is the same for every event of a request.
func (c *Call) Describe(ctx context.Context, e authority.Event) authority.Event {
	if e.Type == "" {
		e.Type = c.route.Event
	}
	request := httpx.RequestOf(ctx)
	e.At, e.RequestID, e.Remote = c.Now, request.ID, request.Remote
	e.Actor = c.Actor()
	if c.Token.Subject.Kind == authority.SubjectUser {
		e.Reason = join(e.Reason, "through client "+c.Token.ClientID)
	}
	return e
}

// Actor is who asks, in the journal.
func (c *Call) Actor() string { return c.Token.Subject.ID }

func join(reason, more string) string {
	if reason == "" {
		return more
	}
	return reason + "; " + more
}

// refuse records a refusal and returns it. A caller that we know is recorded
// at once; one that we do not know, later and in bulk.
func (s *Server) refuse(ctx context.Context, rt *Route, token *issue.AccessToken, err error) error {
	request := httpx.RequestOf(ctx)
	if errorOf(err).Status == http.StatusServiceUnavailable {
		return err
	}
	e := authority.Event{
		Type: authority.EventAdminRefused, At: s.Now(), RequestID: request.ID, Remote: request.Remote,
		Error: errorOf(err).Code, Reason: errorOf(err).Description, Target: rt.Method + " " + rt.Path,
	}
	if token == nil {
		s.Tally(e)
		return err
	}
	e.Actor, e.ClientID, e.TokenID = token.Subject.ID, token.ClientID, token.ID
	if failed := s.Record(ctx, e); failed != nil {
		return Unavailable("the refusal could not be recorded").Because(failed)
	}
	return err
}

// authenticate finds the caller's token: ours, alive, and meant for this API
// (RFC 6750 §2.1, RFC 9068 §4). The accounts behind it are asked too.
func (s *Server) authenticate(ctx context.Context, header http.Header) (*issue.AccessToken, error) {
	raw, err := bearer(header)
	if err != nil {
		return nil, err
	}
	token, _, err := s.Tokens.Accept(ctx, raw, authority.AdminResource)
	switch {
	case errors.Is(err, issue.ErrAudience):
		return nil, badToken("the access token is not meant for the resource " + authority.AdminResource)
	case errors.Is(err, authority.ErrEnded):
		return nil, badToken("the client or the user of the access token no longer exists or is disabled").Because(err)
	case errors.Is(err, issue.ErrInactive):
		return nil, badToken("the access token is not valid, has expired or was revoked").Because(err)
	case err != nil:
		return nil, err
	case len(token.Audience) != 1: // none is issued; whoever it was also for must not use it here
		return nil, badToken("the access token is meant for others too: ask for one for the resource " + authority.AdminResource + " alone")
	}
	return token, nil
}

func isForbidden(err error) bool { return errorOf(err).Code == string(oauth.InsufficientScope) }
