// RFC 6749 §4.1.1 and OpenID Connect Core §3.1.2.1: the authorization request;
// RFC 7636 §4.3: PKCE; RFC 8707 §2: resource indicators.
package authorize

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// The longest values that are taken, in bytes. Longer ones are refused, never cut.
const (
	maxClientID = 512
	maxState    = 4096
	maxNonce    = 512
	maxHint     = 8192 // id_token_hint
	maxName     = 256  // login_hint
	maxIgnored  = 4096 // of each parameter that we know and do not act on
	maxResource = 32
	maxQuery    = 16 << 10 // the whole request, encoded
)

const responseFormPost = "form_post"

// ResponseModes are the ways in which an answer goes to the client.
var ResponseModes = []string{"query", responseFormPost}

// destination is where the answer to a request may go. Before there is one, an
// error is a page; once there is one, it goes to the client (RFC 9700 §4.11).
type destination struct {
	client       authority.Client
	redirectURI  string
	redirectSent bool // the request carried redirect_uri, so /token must see it again (RFC 6749 §4.1.3)
	state        string
	formPost     bool // the answer travels in a form, not in the redirect URI
}

// request is a valid authorization request of a client as it is now.
type request struct {
	destination
	nonce     string
	challenge oauth.Challenge
	target    authority.Target
	prompt    prompt
	maxAge    time.Duration // negative if it was not sent
	loginHint string
	subject   string // whom id_token_hint or claims name; empty for anybody
	claims    requestedClaims
	params    httpx.Params
}

type prompt struct{ none, login, consent, selectAccount bool }

// destination finds the client and its redirect URI. Every error is for a page.
//
// A request without redirect_uri is taken if the client has exactly one and
// does not ask for openid: OAuth 2.1 §4.1.1 allows that, OpenID Connect Core
// §3.1.2.1 does not.
func (h *Handler) destination(ctx context.Context, p httpx.Params) (destination, error) {
	id := p.Get("client_id")
	if id == "" {
		return destination{}, oauth.Errorf(oauth.InvalidRequest, "client_id is missing")
	}
	client, err := h.client(ctx, id)
	if err != nil {
		return destination{}, err
	}
	to := destination{client: client, redirectURI: p.Get("redirect_uri"), redirectSent: p.Has("redirect_uri"), state: p.Get("state")}
	switch {
	case to.redirectSent && !client.AllowsRedirect(to.redirectURI):
		return destination{}, oauth.Errorf(oauth.InvalidRequest, "redirect_uri is not one that the application has registered")
	case to.redirectSent:
	case len(client.RedirectURIs) != 1 || slices.Contains(strings.Fields(p.Get("scope")), oauth.ScopeOpenID):
		return destination{}, oauth.Errorf(oauth.InvalidRequest, "redirect_uri is missing")
	default:
		to.redirectURI = client.RedirectURIs[0].String()
	}
	// A client must not get another state than it sent.
	if !utf8.ValidString(to.state) {
		return destination{}, oauth.Errorf(oauth.InvalidRequest, "state is not valid UTF-8")
	}
	if len(to.state) > maxState {
		return destination{}, oauth.Errorf(oauth.InvalidRequest, "state is longer than %d bytes", maxState)
	}
	to.formPost = p.Get("response_mode") == responseFormPost && takesForms(to.redirectURI)
	return to, nil
}

// takesForms says whether a browser can post a form to the URI: an app has none.
func takesForms(uri string) bool {
	return strings.HasPrefix(uri, "https://") || strings.HasPrefix(uri, "http://")
}

// client finds an enabled client that people sign in to. All others are
// answered like an unknown one: nobody need know here which services and
// administrators there are.
func (h *Handler) client(ctx context.Context, id string) (authority.Client, error) {
	unknown := oauth.Errorf(oauth.InvalidRequest, "client_id is not known here")
	if len(id) > maxClientID {
		return authority.Client{}, unknown
	}
	client, err := h.Directory.Client(ctx, id)
	var cause error
	switch {
	case errors.Is(err, authority.ErrNotFound):
		cause = errors.New("there is no such client")
	case err != nil:
		return authority.Client{}, err
	case client.Disabled:
		cause = errors.New("the client is disabled")
	case !client.MayUse(oauth.AuthorizationCode):
		cause = errors.New("the client may not use the authorization code flow")
	}
	if cause != nil {
		h.Directory.EvenOut(ctx, id)
		return authority.Client{}, unknown.Because(cause)
	}
	httpx.RequestOf(ctx).Log.ClientID = client.ID
	return client, nil
}

// request checks all the rest. An oauth.Error is for the client.
func (h *Handler) request(ctx context.Context, p httpx.Params, to destination) (request, error) {
	req := request{destination: to, nonce: p.Get("nonce"), loginHint: p.Get("login_hint"), maxAge: -1, params: p}
	if p.Has("request") {
		return request{}, oauth.Errorf(oauth.RequestNotSupported, "request objects are not supported")
	}
	if p.Has("request_uri") {
		return request{}, oauth.Errorf(oauth.RequestURINotSupported, "request_uri is not supported")
	}
	switch p.Get("response_type") {
	case "code":
	case "":
		return request{}, oauth.Errorf(oauth.InvalidRequest, "response_type is missing")
	default:
		return request{}, oauth.Errorf(oauth.UnsupportedResponseType, "response_type must be code")
	}
	switch mode := p.Get("response_mode"); {
	case mode == responseFormPost && !to.formPost:
		return request{}, oauth.Errorf(oauth.InvalidRequest, "response_mode form_post needs a redirect_uri with http or https")
	case mode != "" && !slices.Contains(ResponseModes, mode):
		return request{}, oauth.Errorf(oauth.InvalidRequest, "response_mode must be query or form_post")
	}
	for name, most := range map[string]int{
		"nonce": maxNonce, "login_hint": maxName, "id_token_hint": maxHint,
		"claims": maxClaims, "acr_values": maxIgnored, "ui_locales": maxIgnored, "claims_locales": maxIgnored, "display": maxIgnored,
	} {
		if len(p.Get(name)) > most {
			return request{}, oauth.Errorf(oauth.InvalidRequest, "%s is longer than %d bytes", name, most)
		}
	}
	if !utf8.ValidString(req.nonce) {
		// It goes into JSON, which would change it.
		return request{}, oauth.Errorf(oauth.InvalidRequest, "nonce is not valid UTF-8")
	}
	var err error
	if req.challenge, err = oauth.ParseChallenge(p.Get("code_challenge"), p.Get("code_challenge_method")); err != nil {
		return request{}, oauth.Errorf(oauth.InvalidRequest, "%v", err)
	}
	if req.challenge.IsZero() && !to.client.OptionalPKCE {
		// OAuth 2.1 §4.1.1 asks it of every client, and so do we.
		return request{}, oauth.Errorf(oauth.InvalidRequest, "code_challenge is missing: PKCE with S256 is required")
	}
	if req.prompt, err = parsePrompt(p.Get("prompt")); err != nil {
		return request{}, err
	}
	if age := p.Get("max_age"); age != "" {
		seconds, err := strconv.ParseUint(age, 10, 31)
		if err != nil {
			return request{}, oauth.Errorf(oauth.InvalidRequest, "max_age must be a number of seconds")
		}
		req.maxAge = time.Duration(seconds) * time.Second
	}
	if req.target, err = h.target(ctx, p, to.client); err != nil {
		return request{}, err
	}
	if hint := p.Get("id_token_hint"); hint != "" {
		hinted, err := h.ReadIDToken(hint)
		if err != nil {
			return request{}, oauth.Errorf(oauth.InvalidRequest, "id_token_hint is not an ID token of this issuer").Because(err)
		}
		req.subject = hinted.Subject.ID
	}
	if req.claims, err = readClaims(p.Get("claims"), to.client); err != nil {
		return request{}, err
	}
	switch asked := req.claims.subject; {
	case asked != "" && req.subject != "" && asked != req.subject:
		return request{}, oauth.Errorf(oauth.InvalidRequest, "claims and id_token_hint name two people")
	case asked != "":
		req.subject = asked
	}
	if len(req.query()) > maxQuery {
		return request{}, oauth.Errorf(oauth.InvalidRequest, "the request is longer than %d bytes", maxQuery)
	}
	return req, nil
}

func parsePrompt(s string) (prompt, error) {
	var p prompt
	if s == "" {
		return p, nil
	}
	values := strings.Split(s, " ")
	for _, value := range values {
		switch value {
		case "none":
			p.none = true
		case "login":
			p.login = true
		case "consent":
			p.consent = true
		case "select_account":
			p.selectAccount = true
		default:
			return prompt{}, oauth.Errorf(oauth.InvalidRequest, "prompt must be none, or any of login, consent and select_account")
		}
	}
	if p.none && len(values) > 1 {
		return prompt{}, oauth.Errorf(oauth.InvalidRequest, "prompt=none cannot be combined")
	}
	return p, nil
}

// target settles scopes and resources. A request without scope gets what the
// client is registered for at the resources, but nothing about the person and
// no offline access: those must be asked for by name.
func (h *Handler) target(ctx context.Context, p httpx.Params, client authority.Client) (authority.Target, error) {
	scopes, err := oauth.ParseScopes(p.Get("scope"))
	if err != nil {
		return authority.Target{}, oauth.Errorf(oauth.InvalidScope, "%v", err)
	}
	explicit := !scopes.IsEmpty()
	if !explicit {
		scopes = client.Scopes.Filter(func(s string) bool { return !oauth.StandardScopes.Has(s) })
	}
	if outside, is := scopes.FirstOutside(client.Scopes); is {
		return authority.Target{}, oauth.Errorf(oauth.InvalidScope, "the client may not ask for scope %q", outside)
	}
	if !client.MayUse(oauth.RefreshToken) {
		// OpenID Connect Core §11: ignored where it cannot be given.
		scopes = scopes.Filter(func(s string) bool { return s != oauth.ScopeOfflineAccess })
	}
	asked := p.All("resource")
	if len(asked) > maxResource {
		return authority.Target{}, oauth.Errorf(oauth.InvalidTarget, "more than %d resources", maxResource)
	}
	for _, id := range asked {
		if _, err := authority.ParseResourceID(id); err != nil {
			return authority.Target{}, oauth.Errorf(oauth.InvalidTarget, "%v", err)
		}
	}
	var reach []authority.Resource
	for _, id := range client.Resources {
		resource, err := h.Directory.Resource(ctx, id)
		if errors.Is(err, authority.ErrNotFound) {
			continue // deleted since the client was registered: nobody can reach it
		}
		if err != nil {
			return authority.Target{}, err
		}
		reach = append(reach, resource)
	}
	target, err := authority.ResolveTarget(authority.TargetRequest{Scopes: scopes, Explicit: explicit, Reach: reach, Asked: asked, Several: true})
	if err != nil {
		return authority.Target{}, err
	}
	if target.Scopes.IsEmpty() && len(target.Resources) == 0 {
		return authority.Target{}, oauth.Errorf(oauth.InvalidScope, "scope is missing")
	}
	return target, nil
}

// carried are the parameters that decide something. Only they are carried.
var carried = []string{
	"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce",
	"code_challenge", "code_challenge_method", "prompt", "max_age", "login_hint", "id_token_hint", "claims",
}

// query writes the request down again, as it was sent.
func (req request) query() string { return carriedOf(req.params).Encode() }

func carriedOf(p httpx.Params) url.Values {
	values := url.Values{}
	for _, name := range carried {
		if p.Has(name) {
			values.Set(name, p.Get(name))
		}
	}
	if resources := p.All("resource"); len(resources) > 0 {
		values["resource"] = resources
	}
	return values
}

// signedIn is the query of the same request once the person has signed in for
// it: whatever asked for a fresh sign-in has been met.
func (req request) signedIn() string {
	values := carriedOf(req.params)
	for _, name := range []string{"max_age", "login_hint", "id_token_hint", "prompt"} {
		values.Del(name)
	}
	if req.prompt.consent {
		values.Set("prompt", "consent")
	}
	return values.Encode()
}

// readQuery reads parameters that were written by query.
func readQuery(query string) (httpx.Params, error) {
	return httpx.ReadQuery(&http.Request{URL: &url.URL{RawQuery: query}})
}

// mayBePosed says whether another program could pose as the client: it has no
// secret, and its redirect URI is not one that only its owner can serve
// (RFC 8252 §8.6).
func (to destination) mayBePosed() bool {
	return to.client.IsPublic() && !strings.HasPrefix(to.redirectURI, "https://")
}
