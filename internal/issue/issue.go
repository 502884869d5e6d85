// Package issue turns an Authorization into signed tokens, and is the one
// reader that accepts our own. Issue is the one function that every grant type
// passes on its way to a token: it asks for the state of the accounts and for
// what has ended, signs, writes the journal, and makes the transition that pays
// for the tokens, in this order, so that no flow can forget one of them.
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
	// Account finds the account of a subject; authority.ErrEnded if it is disabled or gone.
	Account func(ctx context.Context, subject authority.Subject) (authority.User, error)
	// Revoked asks the revocation view.
	Revoked func([]authority.Link) bool
	// Signer gives the current key of an algorithm; the empty algorithm is the default one.
	Signer func(alg jose.Algorithm, typ string) (*jose.Signer, error)
	// ClusterSigner gives the current key of the first algorithm that a kube-apiserver verifies.
	ClusterSigner func(typ string) (*jose.Signer, error)
	// Opaque seals the access tokens of resources that want opaque ones.
	Opaque *seal.Box
	// Record writes to the journal and returns when the entry is on disk.
	Record func(ctx context.Context, e authority.Event) error
}

// Response is the answer of the token endpoint (RFC 6749 §5.1).
type Response struct {
	AccessToken  string
	TokenType    string
	ExpiresIn    int64        // seconds
	RefreshToken oauth.Secret // zero for none
	RefreshEnds  int64        // seconds until the refresh token ends if nobody uses it
	GrantEnds    int64        // seconds until no refresh token of the grant is good any more
	Scope        string
	IDToken      string          // empty for none
	IssuedType   oauth.TokenType // empty where nothing was exchanged
}

// Issue checks, signs, records and pays, and returns the tokens. What it
// returns besides an oauth.Error is a failure of storage or journal: nothing
// may be handed out then, and nothing has been spent that a retry would miss.
func (i *Issuer) Issue(ctx context.Context, a authority.Authorization, spend authority.Spend) (Response, error) {
	user, err := i.account(ctx, a)
	if err != nil {
		return Response{}, err
	}
	if i.Revoked(a.Links()) {
		return Response{}, oauth.Errorf(oauth.InvalidGrant, "the grant has been revoked")
	}
	issuer := i.Settings()
	token := newAccessToken(issuer.URL, a)
	response := Response{
		TokenType:    "Bearer",
		ExpiresIn:    int64(token.expires.Sub(token.issued) / time.Second),
		RefreshToken: a.RefreshToken,
		Scope:        a.Target.Scopes.String(),
		IssuedType:   a.IssuedType,
	}
	if !a.RefreshToken.IsZero() {
		response.GrantEnds = int64(a.Grant.ExpiresAt.Sub(token.issued) / time.Second)
		response.RefreshEnds = min(response.GrantEnds, int64(a.Grant.Refresh.IdleExpiresAt.Sub(token.issued)/time.Second))
	}
	if response.AccessToken, err = i.encode(token); err != nil {
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
	if err := ctx.Err(); err != nil { // nobody is there to take the tokens
		return Response{}, err
	}
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	// Recorded before it is paid for: if the disk fails, the code or the refresh
	// token is still good, and the client can try again. If the payment fails,
	// the record says too much, and a second one says so.
	event := authority.Event{
		Type: authority.EventTokenIssued, At: a.At,
		ClientID: a.Client.ID, Subject: a.Grant.Subject, GrantType: string(a.GrantType),
		GrantID: a.Grant.ID, SessionID: a.Grant.SessionID, TokenID: token.id, TokenHash: HashOf(response.AccessToken),
		Origin: a.Origin, Assertion: a.Assertion, Policy: a.Policy, Audience: token.audience, Scope: response.Scope, ExpiresAt: token.expires,
	}
	if err := i.Record(ctx, event); err != nil {
		return Response{}, err
	}
	if spend == nil {
		return response, nil
	}
	if err := spend(ctx); err != nil {
		event.Type, event.Reason = authority.EventTokenWithheld, "not handed out: "+oauth.AsError(err).Description
		return Response{}, errors.Join(err, i.Record(ctx, event))
	}
	return response, nil
}

// encode signs or seals an access token.
func (i *Issuer) encode(t accessToken) (string, error) {
	body := t.claims()
	if t.Format == authority.FormatOpaque {
		return oauth.EncodeOpaque(oauth.PrefixAccessToken, i.Opaque.Seal(body, t.expires)), nil
	}
	sign := func(typ string) (*jose.Signer, error) { return i.Signer("", typ) }
	if t.Target.ForCluster(t.issuer) {
		sign = i.ClusterSigner
	}
	signer, err := sign(oauth.TypAccessToken)
	if err != nil {
		return "", err
	}
	return signer.Sign(body)
}

// account refuses disabled clients and accounts, whatever the flow.
func (i *Issuer) account(ctx context.Context, a authority.Authorization) (authority.User, error) {
	if a.Client.Disabled {
		return authority.User{}, oauth.Errorf(oauth.InvalidClient, "the client is disabled")
	}
	if a.Grant.Subject.Kind == authority.SubjectClient && a.Grant.Subject.ID == a.Client.ID {
		return authority.User{}, nil // it has just been found
	}
	user, err := i.Account(ctx, a.Grant.Subject)
	if errors.Is(err, authority.ErrEnded) {
		return authority.User{}, oauth.Errorf(oauth.InvalidGrant, "the account is disabled or no longer exists").Because(err)
	}
	return user, err
}
