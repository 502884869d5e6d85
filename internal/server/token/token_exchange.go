// RFC 8693: token exchange. RFC 7523 §2.1: another issuer's JWT as a grant,
// which is the same without the words of an exchange.
//
// The subject token says who it is about; a trust policy says what it may be
// exchanged for. A workload needs no client: it is known by its policy.
package token

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/policy"
)

// One text for a target that is unknown and one that no policy leads to: the
// answer never says which policy was near.
var errTarget = oauth.Errorf(oauth.InvalidTarget, "no trust policy allows this exchange: the journal says why, and so does `signalbox policy explain`")

func (h *Handler) tokenExchange(ctx context.Context, req *request) (authority.Authorization, authority.Spend, error) {
	ask, err := readExchange(req.form, h.Settings().URL)
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	from, err := h.subject(ctx, req, ask)
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	if err := h.actor(ctx, req, ask.actorToken, ask.actorType); err != nil {
		return authority.Authorization{}, nil, err
	}
	return h.exchange(ctx, req, ask, from)
}

func (h *Handler) jwtBearer(ctx context.Context, req *request) (authority.Authorization, authority.Spend, error) {
	ask, err := readTarget(req.form, h.Settings().URL)
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	ask.subjectType = oauth.TokenTypeJWT
	if ask.subjectToken = req.form.Get("assertion"); ask.subjectToken == "" {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidRequest, "assertion is missing")
	}
	from, err := h.subject(ctx, req, ask)
	if err != nil {
		return authority.Authorization{}, nil, recode(err, oauth.InvalidRequest, oauth.InvalidGrant) // RFC 7521 §4.1.1
	}
	a, spend, err := h.exchange(ctx, req, ask, from)
	return a, spend, recode(err, oauth.InvalidRequest, oauth.InvalidGrant)
}

// refusedExchange is the answer to an exchange that got nothing. What has ended
// since the subject token was accepted is refused like one that had ended before.
// Who authenticates as no client may be told no more than that there were too many:
// an authentic token is counted by itself, wherever it comes from.
func (h *Handler) refusedExchange(r *http.Request, req *request, err error) error {
	if req.grantType == oauth.TokenExchange {
		err = recode(err, oauth.InvalidGrant, oauth.InvalidRequest)
	}
	if req.isKnown() {
		return err
	}
	return h.Clients.Limited(r, req.origin.TokenHash, err)
}

// recode gives a refusal another code, if it has this one.
func recode(err error, from, to oauth.Code) error {
	var refused *oauth.Error
	if !errors.As(err, &refused) || refused.Code != from {
		return err
	}
	again := *refused
	again.Code = to
	return &again
}

// exchangeRequest is what is asked for (RFC 8693 §2.1).
type exchangeRequest struct {
	subjectToken string
	subjectType  oauth.TokenType
	actorToken   string
	actorType    oauth.TokenType
	target       string // what `aud` will be
	scopes       oauth.Scopes
	explicit     bool            // scopes were asked for by name
	issued       oauth.TokenType // what the answer calls the token
}

func readExchange(form params, issuer string) (exchangeRequest, error) {
	ask, err := readTarget(form, issuer)
	if err != nil {
		return ask, err
	}
	ask.subjectToken, ask.subjectType = form.Get("subject_token"), oauth.TokenType(form.Get("subject_token_type"))
	ask.actorToken, ask.actorType = form.Get("actor_token"), oauth.TokenType(form.Get("actor_token_type"))
	for _, name := range []string{"subject_token", "subject_token_type"} {
		if !form.Has(name) {
			return ask, oauth.Errorf(oauth.InvalidRequest, "%s is missing", name)
		}
	}
	if form.Has("actor_token") != form.Has("actor_token_type") {
		return ask, oauth.Errorf(oauth.InvalidRequest, "actor_token and actor_token_type come together")
	}
	switch ask.issued = oauth.TokenType(form.Get("requested_token_type")); ask.issued {
	case "":
		ask.issued = oauth.TokenTypeAccessToken
	case oauth.TokenTypeAccessToken, oauth.TokenTypeJWT:
	default:
		return ask, oauth.Errorf(oauth.InvalidRequest, "requested_token_type must be %s or %s", oauth.TokenTypeAccessToken, oauth.TokenTypeJWT)
	}
	return ask, nil
}

// readTarget reads what both grant types have. `audience` is a cluster's name,
// or what `resource` may be: some clients have no other parameter.
func readTarget(form params, issuer string) (ask exchangeRequest, err error) {
	targets := form.All("resource")
	if audience := form.Get("audience"); audience != "" {
		if !strings.Contains(audience, ":") {
			audience = authority.ClusterAudience(issuer, audience)
		}
		targets = append(targets, audience)
	}
	slices.Sort(targets)
	switch targets = slices.Compact(targets); {
	case len(targets) == 0:
		return ask, oauth.Errorf(oauth.InvalidTarget, "audience or resource is missing: name the cluster or the API that the token is for")
	case len(targets) > 1:
		return ask, oauth.Errorf(oauth.InvalidTarget, "a token is good at one place: ask for each with a request of its own")
	}
	ask.target = targets[0]
	if ask.scopes, err = oauth.ParseScopes(form.Get("scope")); err != nil {
		return ask, oauth.Errorf(oauth.InvalidScope, "%s", err)
	}
	ask.explicit = !ask.scopes.IsEmpty()
	return ask, nil
}

// params is httpx.Params, as far as reading an exchange goes.
type params interface {
	Get(name string) string
	All(name string) []string
	Has(name string) bool
}

// exchanged is a subject token that has been accepted.
type exchanged struct {
	subject authority.Subject
	proof   *authority.Proof   // of another issuer; nil where the token is ours
	token   *issue.AccessToken // ours; nil where it is not
	user    authority.User     // whom a token of ours is about, if it is a person
	expires time.Time
	act     *authority.Actor // who acts in the subject token
	mayAct  *mayAct
}

// mayAct is who alone may act for the subject (RFC 8693 §4.4).
type mayAct struct{ issuer, subject string }

// subject accepts the subject token: for what it says, not yet for what it may give.
func (h *Handler) subject(ctx context.Context, req *request, ask exchangeRequest) (exchanged, error) {
	switch ask.subjectType {
	case oauth.TokenTypeJWT:
		return h.proven(ctx, req, ask.subjectToken)
	case oauth.TokenTypeAccessToken:
		return h.ours(ctx, req, ask.subjectToken)
	}
	return exchanged{}, oauth.Errorf(oauth.InvalidRequest, "subject_token_type must be %s for another issuer's token, or %s for one of ours", oauth.TokenTypeJWT, oauth.TokenTypeAccessToken)
}

// proven accepts another issuer's token.
func (h *Handler) proven(ctx context.Context, req *request, raw string) (exchanged, error) {
	proof, err := h.Prove(ctx, raw)
	req.origin = authority.Origin{TokenID: proof.ID, TokenHash: proof.Hash, Pod: proof.Pod.Name}
	if proof.Subject != "" {
		req.subject = proof.Workload(h.Settings().URL)
	}
	if err != nil {
		return exchanged{}, err
	}
	from := exchanged{subject: req.subject, proof: &proof, expires: proof.Expires}
	return from, from.readClaims(proof.Claims, h.Settings().URL)
}

// ours accepts an access token of ours. It may be meant for anybody: that its
// bearer may exchange it is for a policy to say, by the name of the client.
func (h *Handler) ours(ctx context.Context, req *request, raw string) (exchanged, error) {
	if req.client.ID == "" {
		return exchanged{}, oauth.Errorf(oauth.InvalidClient, "a client must authenticate to exchange an access token: whoever has the token is not yet who may")
	}
	token, user, err := h.Tokens.Accept(ctx, raw, issue.AnyAudience)
	if errors.Is(err, issue.ErrInactive) {
		return exchanged{}, oauth.Errorf(oauth.InvalidRequest, "the subject token is not an active access token of this issuer").Because(err)
	}
	if err != nil {
		return exchanged{}, err
	}
	req.subject, req.origin = token.Subject, authority.Origin{TokenID: token.ID.String(), TokenHash: issue.HashOf(raw)}
	if token.Bound { // what comes from it would have to be bound to a key that nobody has proved
		return exchanged{}, oauth.Errorf(oauth.InvalidRequest, "the subject token is bound to a key, and no proof of that key is accepted here")
	}
	from := exchanged{subject: token.Subject, token: token, user: user, expires: token.Expires}
	return from, from.readClaims([]byte(token.Claims), h.Settings().URL)
}

// readClaims reads what a subject token says beside who it is about. Names are
// compared exactly: what reads like cnf is not cnf.
func (e *exchanged) readClaims(body []byte, issuer string) error {
	claims, err := jose.ParseClaims(body)
	if err != nil {
		return oauth.Errorf(oauth.InvalidRequest, "the subject token's claims cannot be read").Because(err)
	}
	if claims.Has("cnf") {
		return oauth.Errorf(oauth.InvalidRequest, "the subject token is bound to a key, and no proof of that key is accepted here")
	}
	if e.proof != nil && claims.Has("act") {
		// Its bearer is not its subject. Whoever acts there is no client of ours, and a
		// policy about the subject says nothing about them.
		return oauth.Errorf(oauth.InvalidRequest, "the subject token says in act that somebody acts for its subject: only the subject itself may show it here")
	}
	if e.act, err = readActor(claims); err != nil {
		return err
	}
	return e.readMayAct(claims, issuer)
}

// readActor reads the chain of those who act in a token of ours.
func readActor(claims jose.Claims) (*authority.Actor, error) {
	var first *authority.Actor
	next := &first
	for depth := 0; ; depth++ {
		act, there, err := claims.Object("act")
		if err != nil {
			return nil, oauth.Errorf(oauth.InvalidRequest, "the subject token's act cannot be read").Because(err)
		}
		if !there {
			return first, nil
		}
		if depth >= authority.MaxLineage {
			return nil, errTooOften
		}
		sub, there, err := act.String("sub")
		if err != nil || !there {
			return nil, oauth.Errorf(oauth.InvalidRequest, "the subject token's act has no sub")
		}
		*next = &authority.Actor{Subject: sub}
		next, claims = &(*next).Act, act
	}
}

var errTooOften = oauth.Errorf(oauth.InvalidRequest, "the token has been exchanged too often: at most %d times in a row", authority.MaxLineage)

// readMayAct reads who may act for the subject. Without an iss that is somebody
// of the token's own issuer. What it names beside iss and sub cannot be compared.
func (e *exchanged) readMayAct(claims jose.Claims, issuer string) error {
	m, there, err := claims.Object("may_act")
	if err != nil {
		return oauth.Errorf(oauth.InvalidRequest, "the subject token's may_act cannot be read").Because(err)
	}
	if !there {
		return nil
	}
	e.mayAct = &mayAct{}
	if e.proof == nil {
		e.mayAct.issuer = issuer
	}
	for _, name := range m.Names() {
		switch value, _, err := m.String(name); {
		case err != nil:
			return oauth.Errorf(oauth.InvalidRequest, "the subject token's may_act cannot be read").Because(err)
		case name == "iss":
			e.mayAct.issuer = value
		case name == "sub":
			e.mayAct.subject = value
		default:
			return oauth.Errorf(oauth.InvalidRequest, "the subject token's may_act has a member that is not supported: only iss and sub are")
		}
	}
	return nil
}

// allows says whether a client, or nobody, may show the token.
func (m *mayAct) allows(client authority.Client, issuer string) error {
	if m == nil || client.ID != "" && m.subject == client.ID && m.issuer == issuer {
		return nil
	}
	return oauth.Errorf(oauth.InvalidRequest, "the subject token says in may_act that somebody else may act for it")
}

// actor accepts an actor token: it proves who the client is, once more, and
// nobody else may act in its name (RFC 8693 §1.1: delegation; impersonation is
// never given).
func (h *Handler) actor(ctx context.Context, req *request, raw string, kind oauth.TokenType) error {
	if raw == "" {
		return nil
	}
	if kind != oauth.TokenTypeAccessToken || req.client.ID == "" {
		return oauth.Errorf(oauth.InvalidRequest, "actor_token must be an access token of the client that asks, with actor_token_type %s", oauth.TokenTypeAccessToken)
	}
	token, _, err := h.Tokens.Accept(ctx, raw, issue.AnyAudience)
	if errors.Is(err, issue.ErrInactive) {
		return oauth.Errorf(oauth.InvalidRequest, "the actor token is not an active access token of this issuer").Because(err)
	}
	if err != nil {
		return err
	}
	if token.Bound || token.Subject.Kind != authority.SubjectClient || token.Subject.ID != req.client.ID {
		return oauth.Errorf(oauth.InvalidRequest, "the actor token is not about the client that asks")
	}
	return nil
}

// exchange asks the policies, and says what may be issued.
func (h *Handler) exchange(ctx context.Context, req *request, ask exchangeRequest, from exchanged) (authority.Authorization, authority.Spend, error) {
	none := authority.Authorization{}
	req.target = ask.target
	if err := from.mayAct.allows(req.client, h.Settings().URL); err != nil {
		return none, nil, err
	}
	left := from.expires.Sub(req.at) // its issuer's clock may be behind: it was accepted for a little longer
	if left < time.Second {
		return none, nil, oauth.Errorf(oauth.InvalidRequest, "the subject token has expired")
	}
	if ask.target == authority.AdminResource { // no policy leads there: see PolicyMetadata.Validate
		return none, nil, errTarget.Because(errors.New("nothing is ever exchanged for the admin API"))
	}
	decision, err := h.decide(ctx, req, ask, from)
	if err != nil {
		return none, nil, err
	}
	p := decision.Policy
	resource, err := h.Directory.Resource(ctx, ask.target)
	if errors.Is(err, authority.ErrNotFound) {
		return none, nil, errTarget.Because(err)
	}
	if err != nil {
		return none, nil, err
	}
	if ask.issued == oauth.TokenTypeJWT && resource.Format != authority.FormatJWT {
		return none, nil, oauth.Errorf(oauth.InvalidRequest, "the tokens of this resource are not JWTs")
	}
	scopes, err := narrowed(from, resource, ask, decision.Scopes)
	if err != nil {
		return none, nil, err
	}
	groups, err := narrowedGroups(from, resource, p.Groups)
	if err != nil {
		return none, nil, err
	}
	life := min(p.TTL, left)
	if resource.AccessTTL > 0 {
		life = min(life, resource.AccessTTL)
	}
	a := authority.Authorization{
		GrantType: req.grantType, Client: req.client, Target: authority.Target{Scopes: scopes, Resources: []authority.Resource{resource}},
		Format: resource.Format, At: req.at, Policy: p.Name, Groups: groups, Origin: req.origin, Assertion: req.assertion, IssuedType: ask.issued, Actor: from.act,
	}
	if p.From.Client != "" { // the client, before whoever acted already (RFC 8693 §4.1)
		a.Actor = &authority.Actor{Subject: req.client.ID, Act: from.act}
	}
	if from.proof != nil {
		if a.Client.ID == "" {
			a.Client = authority.Client{ID: p.ClientID()}
		}
		life = min(life, from.proof.MaxLife(req.at))
		a.Grant, err = h.Standing.For(ctx, h.standingGrant(req, *from.proof, a.Client.ID, p.Scopes, a.Target.ResourceIDs()), authority.Event{At: req.at, Policy: p.Name, Origin: req.origin, Assertion: req.assertion})
		if err != nil {
			return none, nil, err
		}
	} else if a.Grant, err = childGrant(req, a, from); err != nil {
		return none, nil, err
	}
	a.Life = life
	return a, nil, h.vouch(ctx, req, &a)
}

// decide asks the policies, and records what those on trial would have said.
func (h *Handler) decide(ctx context.Context, req *request, ask exchangeRequest, from exchanged) (policy.Decision, error) {
	question := policy.Request{
		Proof: from.proof, ClientID: req.client.ID, Subject: from.subject, Target: ask.target,
		Scopes: ask.scopes, Explicit: ask.explicit, Now: req.now,
	}
	if from.token != nil {
		question.IssuedTo = from.token.ClientID
		if from.subject.Kind == authority.SubjectUser && meantForUs(from.token, req.client, h.Settings().URL) {
			question.Groups = from.user.Groups
		}
	}
	d := h.Decide(question)
	for _, name := range d.Trials {
		err := h.Record(ctx, authority.Event{
			Type: authority.EventPolicyTried, At: req.at, ClientID: req.client.ID, Subject: from.subject, GrantType: string(req.grantType),
			Policy: name, Origin: req.origin, Audience: []string{ask.target}, Scope: ask.scopes.String(), Reason: "would have allowed it",
		})
		if err != nil {
			return d, err
		}
	}
	switch {
	case d.Outside != "":
		return d, oauth.Errorf(oauth.InvalidScope, "the trust policy does not give scope %q", d.Outside)
	case !d.Allowed():
		return d, errTarget.Because(whyNot(d))
	case d.Policy.From.Client != "" && req.client.IsPublic():
		return d, errTarget.Because(errors.New("anybody can ask in the name of a public client"))
	}
	return d, nil
}

// meantForUs says whether a person's groups count: an API that was sent a token
// must not turn it into the person's rights elsewhere. It cannot say that it is a
// client that has a secret. Anybody can say that they are a public client, so its
// token must be for us alone.
func meantForUs(token *issue.AccessToken, client authority.Client, issuer string) bool {
	return slices.Contains(token.Audience, issuer) && (!client.IsPublic() || len(token.Audience) == 1)
}

func whyNot(d policy.Decision) error {
	switch {
	case d.Conflict != [2]string{}:
		return errors.New("two policies apply: " + d.Conflict[0] + " and " + d.Conflict[1])
	case len(d.Failed) > 0:
		return errors.New("`when` had no answer: " + strings.Join(d.Failed, ", "))
	}
	return errors.New("no policy applies")
}

// narrowed keeps a token from having more at a resource than the subject token
// has there. Where that has nothing, the policy alone says what it gives.
func narrowed(from exchanged, resource authority.Resource, ask exchangeRequest, granted oauth.Scopes) (oauth.Scopes, error) {
	scopes := granted.Intersect(resource.Scopes)
	if from.token != nil && (slices.Contains(from.token.Audience, resource.ID) || !from.token.Scopes.Intersect(resource.Scopes).IsEmpty()) {
		scopes = scopes.Intersect(from.token.Scopes)
	}
	if outside, is := ask.scopes.FirstOutside(scopes); is {
		return oauth.Scopes{}, oauth.Errorf(oauth.InvalidScope, "scope %q is more than the subject token has", outside)
	}
	if scopes.IsEmpty() && !granted.IsEmpty() {
		return oauth.Scopes{}, oauth.Errorf(oauth.InvalidScope, "nothing is left of the policy's scopes that the subject token has too")
	}
	return scopes, nil
}

// narrowedGroups does the same for the groups of a token for the same place.
func narrowedGroups(from exchanged, resource authority.Resource, granted []string) ([]string, error) {
	if from.token == nil || !slices.Contains(from.token.Audience, resource.ID) {
		return granted, nil
	}
	var left []string
	for _, group := range granted {
		if slices.Contains(from.token.Groups, group) {
			left = append(left, group)
		}
	}
	if len(left) == 0 && len(granted) > 0 {
		return nil, errTarget.Because(errors.New("nothing is left of the policy's groups that the subject token has too"))
	}
	return left, nil
}

// standingGrant is the grant that whoever has a proof keeps as long as what it comes from lives.
// Where nobody hears of the end of a pod it lives no longer than the proof.
func (h *Handler) standingGrant(req *request, proof authority.Proof, clientID string, scopes oauth.Scopes, resources []string) authority.Grant {
	expires := proof.Expires
	if proof.Pods == authority.PodsWatched {
		expires = req.at.Add(h.Settings().RefreshTTL)
	}
	return authority.Grant{
		ID: authority.NewID(req.at), ClientID: clientID, Subject: proof.Workload(h.Settings().URL), Scopes: scopes, Resources: resources,
		Evidence: proof.Evidence(), State: authority.GrantActive, CreatedAt: req.at, ExpiresAt: expires,
	}
}

// childGrant is a grant below that of the subject token. Nothing is stored: it
// names its ancestors, and dies with all that the subject token depends on.
func childGrant(req *request, a authority.Authorization, from exchanged) (authority.Grant, error) {
	token := from.token
	if len(token.Lineage) >= authority.MaxLineage {
		return authority.Grant{}, errTooOften
	}
	g := authority.Grant{
		ID: authority.NewID(req.at), Lineage: append(slices.Clone(token.Lineage), authority.Ancestor{GrantID: token.GrantID, ClientID: token.ClientID}),
		ClientID: a.Client.ID, Subject: from.subject, Scopes: a.Target.Scopes, Resources: a.Target.ResourceIDs(),
		Workloads: token.Workloads, SessionID: token.SessionID, AuthTime: token.AuthTime, AMR: token.AMR,
		State: authority.GrantActive, CreatedAt: req.at, ExpiresAt: from.expires,
	}
	if !token.SessionID.IsZero() {
		g.Evidence = authority.SessionEvidence(token.SessionID)
	}
	return g, nil
}
