// Package clientauth turns a request into the client that has proved itself
// (RFC 6749 §2.3): by its secret, or by an assertion (RFC 7523 §2.2) that it has
// signed, or that another issuer has made for its workload.
//
// A refusal never says which part was wrong, and costs the same whether the
// client is declared, stored, disabled, of another method or unknown
// (docs/security/threats.md C 39): one question to the database, and one secret,
// one signature or one proof checked. What is checked, the request alone decides.
package clientauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Authenticator finds out which client is asking, and that it is that client.
type Authenticator struct {
	Issuer    string
	Directory *authority.Directory
	Tickets   authority.TicketStore
	// Prove is the one way to accept a token of another issuer: see token.Handler.
	Prove func(ctx context.Context, raw string) (authority.Proof, error)
	Limit *Limiter
	Now   func() time.Time
}

// One answer for every way of not being a client: which part was wrong is
// nobody's business.
var errClient = oauth.Errorf(oauth.InvalidClient, "client authentication failed")

const (
	maxClientID     = 512
	maxClientSecret = 1024
)

// Authenticate returns the client that has proved itself by the one method
// that it is registered for, and what another issuer says of it: zero for a client
// with a credential of its own. An assertion that is authentic comes with a refusal
// too, for the record alone.
func (a *Authenticator) Authenticate(r *http.Request, form httpx.Params) (authority.Client, authority.Proof, error) {
	presented, err := readProof(r, form)
	if err != nil {
		return authority.Client{}, authority.Proof{}, err
	}
	client, proof, err := a.check(r.Context(), presented)
	if err != nil {
		// Whoever has an authentic assertion could try it as many clients.
		return authority.Client{}, proof, a.limited(r, presented.clientID, proof.Hash, err)
	}
	log := &httpx.RequestOf(r.Context()).Log
	log.ClientID, log.Proved = client.ID, !client.IsPublic()
	return client, proof, nil
}

// Names says whether a request names a client, in whatever way.
func Names(r *http.Request, form httpx.Params) bool {
	if len(r.Header["Authorization"]) > 0 {
		return true
	}
	return slices.ContainsFunc([]string{"client_id", "client_secret", "client_assertion", "client_assertion_type"}, form.Has)
}

// Limited is the answer to somebody who has proved to be no client and was
// refused: the reason, or that there were too many. shown is the hash of the token
// that was shown, if that is authentic: its failures are counted wherever they come
// from. All others are counted by their address.
func (a *Authenticator) Limited(r *http.Request, shown string, err error) error {
	return a.limited(r, "", shown, err)
}

func (a *Authenticator) limited(r *http.Request, clientID, shown string, err error) error {
	remote := httpx.RequestOf(r.Context()).Remote
	if shown != "" {
		clientID, remote = shown, ""
	}
	var refused *oauth.Error
	if errors.As(err, &refused) && !a.Limit.Failed(clientID, remote) {
		return httpx.ErrTooMany
	}
	return err
}

// proof is what a request says about its client, before any of it is believed.
type proof struct {
	method    oauth.AuthMethod
	clientID  string
	secret    oauth.Secret
	assertion assertion
}

func readProof(r *http.Request, form httpx.Params) (proof, error) {
	bodyID, secret, signed := form.Get("client_id"), form.Get("client_secret"), form.Get("client_assertion")
	var found []proof
	if headers := r.Header["Authorization"]; len(headers) > 1 {
		return proof{}, oauth.Errorf(oauth.InvalidRequest, "more than one Authorization header")
	} else if len(headers) == 1 {
		id, password, err := parseBasic(headers[0])
		if err != nil {
			return proof{}, errClient.Because(err)
		}
		found = append(found, proof{method: oauth.AuthClientSecretBasic, clientID: id, secret: oauth.SecretOf(password)})
	}
	if secret != "" {
		found = append(found, proof{method: oauth.AuthClientSecretPost, clientID: bodyID, secret: oauth.SecretOf(secret)})
	}
	if signed != "" || form.Has("client_assertion_type") {
		if form.Get("client_assertion_type") != oauth.AssertionTypeJWTBearer {
			return proof{}, oauth.Errorf(oauth.InvalidRequest, "client_assertion_type must be %s", oauth.AssertionTypeJWTBearer)
		}
		p, err := readAssertion(signed, bodyID)
		if err != nil {
			return proof{}, errClient.Because(err)
		}
		found = append(found, p)
	}
	switch {
	case len(found) > 1:
		return proof{}, oauth.Errorf(oauth.InvalidRequest, "the client authenticates in more than one way")
	case len(found) == 0 && bodyID == "":
		return proof{}, errClient
	case len(found) == 0:
		found = append(found, proof{method: oauth.AuthNone, clientID: bodyID})
	case bodyID != "" && bodyID != found[0].clientID:
		return proof{}, oauth.Errorf(oauth.InvalidRequest, "client_id is not the client that authenticates")
	}
	if id := found[0].clientID; id == "" || len(id) > maxClientID || len(found[0].secret.Reveal()) > maxClientSecret {
		return proof{}, errClient
	}
	return found[0], nil
}

// parseBasic reads client_id and client_secret, each form-urlencoded before
// they were put together (RFC 6749 §2.3.1).
func parseBasic(header string) (id, secret string, err error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", errors.New("not the Basic scheme")
	}
	if len(encoded) > 4096 || strings.ContainsAny(encoded, "\r\n") {
		return "", "", errors.New("credentials are too long")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", "", errors.New("credentials are not base64")
	}
	rawID, rawSecret, ok := strings.Cut(string(raw), ":")
	if !ok {
		return "", "", errors.New("credentials have no colon")
	}
	if id, err = url.QueryUnescape(rawID); err != nil {
		return "", "", errors.New("client_id is not form-urlencoded")
	}
	if secret, err = url.QueryUnescape(rawSecret); err != nil {
		return "", "", errors.New("client_secret is not form-urlencoded")
	}
	return id, secret, nil
}

// check compares the proof with the client. Every refusal does the same work,
// in the same order, so it looks at the whole proof before it refuses.
func (a *Authenticator) check(ctx context.Context, p proof) (authority.Client, authority.Proof, error) {
	client, err := a.Directory.Client(ctx, p.clientID)
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		return authority.Client{}, authority.Proof{}, err
	}
	refusal := eligible(client, err, p.method)
	if refusal != nil {
		client.Secrets, client.JWKS = nil, nil // nothing proves what may not be proved
	}
	var ticket authority.Ticket
	var proven authority.Proof
	switch p.method {
	case oauth.AuthClientSecretBasic, oauth.AuthClientSecretPost:
		if !acceptsSecret(client, p.secret, a.Now()) && refusal == nil {
			refusal = errors.New("the secret is wrong")
		}
	case oauth.AuthPrivateKeyJWT:
		var wrong error
		if ticket, wrong = a.verify(client, p.assertion); refusal == nil {
			refusal = wrong
		}
	case oauth.AuthFederatedJWT:
		var wrong error
		var judged *oauth.Error
		if proven, wrong = a.Prove(ctx, p.assertion.raw); wrong == nil {
			wrong = a.vouches(proven, client)
		} else if !errors.As(wrong, &judged) {
			return authority.Client{}, proven, wrong // nobody can say whether it is good
		}
		if refusal == nil {
			refusal = wrong
		}
	}
	if refusal != nil {
		a.Directory.EvenOut(ctx, p.clientID)
		return authority.Client{}, proven, p.refused(refusal)
	}
	if p.method == oauth.AuthPrivateKeyJWT {
		err := a.Tickets.TakeTicket(ctx, ticket)
		if errors.Is(err, authority.ErrSpent) {
			return authority.Client{}, proven, p.refused(errors.New("the assertion has been used already"))
		}
		if err != nil {
			return authority.Client{}, proven, err
		}
	}
	return client, proven, nil
}

// refused tells the log which client was named, known or not: whoever runs it
// comes with the number of the request.
func (p proof) refused(why error) error {
	return errClient.Because(fmt.Errorf("client %.100q: %w", p.clientID, why))
}

// The two dear checks are variables so that a test can count them.
var (
	acceptsSecret = authority.Client.AcceptsSecret
	verifyJWT     = jose.Verify
)

// eligible says why a client cannot authenticate by this method, whatever it sends.
func eligible(client authority.Client, notFound error, method oauth.AuthMethod) error {
	switch {
	case notFound != nil:
		return errors.New("the client is not known")
	case client.Disabled:
		return errors.New("the client is disabled")
	case client.AuthMethod != method:
		return fmt.Errorf("the client is registered for %s and tried %s", client.AuthMethod, method)
	}
	return nil
}
