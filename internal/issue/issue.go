// Package issue turns an Authorization into signed tokens. Issue is the one
// function that every grant type passes on its way to a token: it asks for the
// state of the accounts and for epochs, signs, makes the transition that pays
// for the tokens, and writes the journal, in this order, so that no flow can
// forget one of them.
package issue

import (
	"context"
	"errors"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

// Issuer issues tokens. All fields are required.
type Issuer struct {
	// Settings returns the issuer's URL and lifetimes as they are now: a
	// reload of the configuration may change the lifetimes.
	Settings func() authority.Issuer
	// User finds an account (authority.ErrNotFound).
	User func(ctx context.Context, id string) (authority.User, error)
	// Revoked asks the revocation view.
	Revoked func(authority.Lineage) bool
	// Signer gives the current key of an algorithm; the empty algorithm is the default one.
	Signer func(alg jose.Algorithm, typ string) (*jose.Signer, error)
	// Opaque seals the access tokens of resources that want opaque ones.
	Opaque *seal.Box
	// Record writes to the journal and returns when the entry is on disk.
	Record func(ctx context.Context, e authority.Event) error
	// Recordable fails while nothing can be recorded.
	Recordable func() error
}

// Response is the answer of the token endpoint (RFC 6749 §5.1).
type Response struct {
	AccessToken  string
	TokenType    string
	ExpiresIn    int64  // seconds
	RefreshToken string // empty for none
	Scope        string
	IDToken      string // empty for none
}

// Issue checks, signs, pays and records, and returns the tokens. What it
// returns besides an oauth.Error is a failure of storage or journal: nothing
// may be handed out then.
func (i *Issuer) Issue(ctx context.Context, a authority.Authorization) (Response, error) {
	user, err := i.account(ctx, a)
	if err != nil {
		return Response{}, err
	}
	if i.Revoked(LineageOf(a.Grant)) {
		return Response{}, oauth.Errorf(oauth.InvalidGrant, "the grant has been revoked")
	}
	issuer := i.Settings()
	token := i.plan(issuer, a)
	response := Response{
		TokenType:    "Bearer",
		ExpiresIn:    int64(token.expires.Sub(token.issued) / time.Second),
		RefreshToken: a.RefreshToken,
		Scope:        a.Target.Scopes.String(),
	}
	if response.AccessToken, err = i.accessToken(issuer, a, token); err != nil {
		return Response{}, err
	}
	if !readable(response.AccessToken) {
		return Response{}, oauth.Errorf(oauth.InvalidTarget, "the access token would be too large: ask for fewer resources or scopes at once")
	}
	if a.IDToken {
		if response.IDToken, err = i.idToken(issuer, a, user, response.AccessToken); err != nil {
			return Response{}, err
		}
	}
	// Paid for once the tokens are made and the journal is known to work: what
	// fails before has changed nothing, and the client can try again.
	if err := i.Recordable(); err != nil {
		return Response{}, err
	}
	if err := ctx.Err(); err != nil { // nobody is there to take the tokens
		return Response{}, err
	}
	ctx, cancel := Settle(ctx)
	defer cancel()
	if a.Spend != nil {
		if err := a.Spend(ctx); err != nil {
			return Response{}, err
		}
	}
	err = i.Record(ctx, authority.Event{
		Type: authority.EventTokenIssued, At: a.At,
		ClientID: a.Client.ID, Subject: a.Grant.Subject, GrantType: string(a.GrantType),
		GrantID: a.Grant.ID, SessionID: a.Grant.SessionID, TokenID: token.id, TokenHash: HashOf(response.AccessToken),
		Audience: token.audience, Scope: response.Scope, ExpiresAt: token.expires,
	})
	if err != nil {
		return Response{}, err
	}
	return response, nil
}

// settleTimeout is longer than the storage lets a caller wait, and shorter
// than the server waits for an answer.
const settleTimeout = 30 * time.Second

// Settle gives the context for a change of state and its record: whoever
// hangs up in between must not leave a change that the journal never saw.
func Settle(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
}

// account refuses disabled clients and users, whatever the flow.
func (i *Issuer) account(ctx context.Context, a authority.Authorization) (authority.User, error) {
	if a.Client.Disabled {
		return authority.User{}, oauth.Errorf(oauth.InvalidClient, "the client is disabled")
	}
	if a.Grant.Subject.Kind != authority.SubjectUser {
		return authority.User{}, nil
	}
	user, err := i.User(ctx, a.Grant.Subject.ID)
	switch {
	case errors.Is(err, authority.ErrNotFound):
		return authority.User{}, oauth.Errorf(oauth.InvalidGrant, "the user's account no longer exists")
	case err != nil:
		return authority.User{}, err
	case user.Disabled:
		return authority.User{}, oauth.Errorf(oauth.InvalidGrant, "the user's account is disabled")
	}
	return user, nil
}

// LineageOf is what a grant itself hangs on. It is as old as the oldest of its
// making and of the sign-in that it came from: an epoch ends what an older
// sign-in still gives, also on a node that had not heard of it yet.
func LineageOf(g authority.Grant) authority.Lineage {
	granted := g.CreatedAt
	if id := g.ID.Time(); id.Before(granted) {
		granted = id // the id is made with the consent page, and stands in every token
	}
	return authority.Lineage{
		GrantID: g.ID, SessionID: boundSession(g), Subject: g.Subject, ClientID: g.ClientID, Granted: granted, SignedIn: g.AuthTime,
	}
}

// boundSession is the session that a grant dies with. A grant with
// offline_access goes on when the browser signs out.
func boundSession(g authority.Grant) authority.ID {
	if g.Outlives() {
		return authority.ID{}
	}
	return g.SessionID
}
