// RFC 8693: token exchange. RFC 7523 §2.1: another issuer's JWT as a grant,
// which is the same without the words of an exchange.
//
// The subject token says who it is about; a trust policy says what it may be
// exchanged for. A workload needs no client: it is known by its policy.
package token

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
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
	if err := h.actor(ctx, req, from, ask.actorToken, ask.actorType); err != nil {
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
	var refused *oauth.Error
	if errors.As(err, &refused) && refused.Code == oauth.InvalidRequest {
		invalid := *refused
		invalid.Code = oauth.InvalidGrant // RFC 7521 §4.1.1
		return authority.Authorization{}, nil, &invalid
	}
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	return h.exchange(ctx, req, ask, from)
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
	expires time.Time
	origin  authority.Origin
	act     *authority.Actor // who acts in the subject token
	mayAct  *mayAct
}

// mayAct is who alone may act for the subject (RFC 8693 §4.4).
type mayAct struct {
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
}

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

// proven accepts another issuer's token, and asks whether its pod still lives
// and whether what is older than an epoch would end.
func (h *Handler) proven(ctx context.Context, req *request, raw string) (exchanged, error) {
	if err := h.Tokens.Fresh(); err != nil {
		return exchanged{}, err
	}
	proof, err := h.Prove(ctx, raw)
	if err != nil {
		return exchanged{}, err
	}
	from := exchanged{
		subject: authority.Subject{Issuer: h.Settings().URL, ID: proof.WorkloadID(), Kind: authority.SubjectWorkload},
		proof:   &proof, expires: proof.Expires, origin: authority.Origin{TokenID: proof.ID, TokenHash: proof.Hash},
	}
	links := append(from.subject.Epochs(proof.IssuedAt), proof.Evidence().Link())
	if h.Endings.Follower.View.Revoked(links) {
		return exchanged{}, errEvidence
	}
	return from, from.readActors(proof.Claims)
}

// ours accepts an access token of ours. It may be meant for anybody: that its
// bearer may exchange it is for a policy to say, by the name of the client.
func (h *Handler) ours(ctx context.Context, req *request, raw string) (exchanged, error) {
	if req.client.ID == "" {
		return exchanged{}, oauth.Errorf(oauth.InvalidClient, "a client must authenticate to exchange an access token: whoever has the token is not yet who may")
	}
	token, _, err := h.Tokens.Accept(ctx, raw, issue.AnyAudience)
	if errors.Is(err, issue.ErrInactive) {
		return exchanged{}, oauth.Errorf(oauth.InvalidRequest, "the subject token is not an active access token of this issuer").Because(err)
	}
	if err != nil {
		return exchanged{}, err
	}
	if token.Bound { // what comes from it would have to be bound to a key that nobody has proved
		return exchanged{}, oauth.Errorf(oauth.InvalidRequest, "the subject token is bound to a key, and no proof of that key is accepted here")
	}
	from := exchanged{
		subject: token.Subject, token: token, expires: token.Expires,
		origin: authority.Origin{TokenID: token.ID.String(), TokenHash: issue.HashOf(raw)},
	}
	return from, from.readActors([]byte(token.Claims))
}

// actClaims are the claims of a subject token that are about actors.
type actClaims struct {
	Act          *authority.Actor `json:"act"`
	MayAct       *mayAct          `json:"may_act"`
	Confirmation json.RawMessage  `json:"cnf"`
}

func (e *exchanged) readActors(claims []byte) error {
	var c actClaims
	if err := json.Unmarshal(claims, &c); err != nil {
		return oauth.Errorf(oauth.InvalidRequest, "the subject token's act or may_act cannot be read").Because(err)
	}
	if len(c.Confirmation) > 0 {
		return oauth.Errorf(oauth.InvalidRequest, "the subject token is bound to a key, and no proof of that key is accepted here")
	}
	if c.Act.Depth() >= authority.MaxLineage {
		return oauth.Errorf(oauth.InvalidRequest, "the token has been exchanged too often: at most %d times in a row", authority.MaxLineage)
	}
	e.act, e.mayAct = c.Act, c.MayAct
	return nil
}

// actor accepts an actor token: it proves who the client is, once more, and
// nobody else may act in its name (RFC 8693 §1.1: delegation; impersonation is
// never given).
func (h *Handler) actor(ctx context.Context, req *request, from exchanged, raw string, kind oauth.TokenType) error {
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
	life := p.TTL
	if resource.AccessTTL > 0 {
		life = min(life, resource.AccessTTL)
	}
	a := authority.Authorization{
		GrantType: req.grantType, Client: req.client, Target: authority.Target{Scopes: scopes, Resources: []authority.Resource{resource}},
		Format: resource.Format, At: req.at, Policy: p.Name, Groups: p.Groups, Origin: from.origin, IssuedType: ask.issued,
	}
	if p.From.Client != "" {
		if a.Actor, err = from.actedBy(req.client, h.Settings().URL); err != nil {
			return none, nil, err
		}
	} else {
		a.Actor = from.act
	}
	if from.proof != nil {
		if a.Client.ID == "" {
			a.Client = authority.Client{ID: p.ClientID()}
		}
		mode, err := h.podMode(ctx, *from.proof)
		if err != nil {
			return none, nil, err
		}
		life = min(life, mode.MaxTTL())
		a.Grant, err = h.Standing.For(ctx, h.standingGrant(req, a, from, p, mode), authority.Event{At: req.at, Policy: p.Name, Origin: from.origin})
		if err != nil {
			return none, nil, err
		}
	} else if a.Grant, err = childGrant(req, a, from); err != nil {
		return none, nil, err
	}
	if a.Life = min(life, from.expires.Sub(req.at)); a.Life < time.Second {
		return none, nil, oauth.Errorf(oauth.InvalidRequest, "the subject token has expired")
	}
	return a, nil, nil
}

// decide asks the policies, and records what those on trial would have said.
func (h *Handler) decide(ctx context.Context, req *request, ask exchangeRequest, from exchanged) (policy.Decision, error) {
	question := policy.Request{
		Proof: from.proof, ClientID: req.client.ID, Subject: from.subject, Target: ask.target,
		Scopes: ask.scopes, Explicit: ask.explicit, Now: req.now,
	}
	if from.token != nil {
		question.IssuedTo = from.token.ClientID
		// A person's groups count for a token that was meant for us: an API that was
		// sent one must not turn it into the person's rights elsewhere.
		if from.subject.Kind == authority.SubjectUser && slices.Contains(from.token.Audience, h.Settings().URL) {
			user, err := h.Directory.User(ctx, from.subject.ID)
			if err != nil {
				return policy.Decision{}, err
			}
			question.Groups = user.Groups
		}
	}
	d := h.Decide(question)
	for _, name := range d.Trials {
		err := h.Record(ctx, authority.Event{
			Type: authority.EventPolicyTried, At: req.at, ClientID: req.client.ID, Subject: from.subject, GrantType: string(req.grantType),
			Policy: name, Origin: from.origin, Audience: []string{ask.target}, Scope: ask.scopes.String(), Reason: "would have allowed it",
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

// actedBy puts the client before whoever acted already (RFC 8693 §4.1).
func (e exchanged) actedBy(client authority.Client, issuer string) (*authority.Actor, error) {
	if m := e.mayAct; m != nil && (m.Subject != client.ID || m.Issuer != "" && m.Issuer != issuer) {
		return nil, oauth.Errorf(oauth.InvalidRequest, "the subject token says in may_act that somebody else may act for it")
	}
	return &authority.Actor{Subject: client.ID, Act: e.act}, nil
}

// podMode is how the end of the proof's pod is learned. A job has none: its
// tokens end with the proof.
func (h *Handler) podMode(ctx context.Context, proof authority.Proof) (authority.PodMode, error) {
	if proof.Cluster == "" {
		return authority.PodsOffline, nil
	}
	cluster, err := h.Directory.Cluster(ctx, proof.Cluster)
	if errors.Is(err, authority.ErrNotFound) {
		return "", oauth.Errorf(oauth.InvalidRequest, "the subject token's cluster is no longer trusted").Because(err)
	}
	return cluster.Pods, err
}

// standingGrant is the grant of a workload. Where nobody hears of the end of
// its pod it lives no longer than the proof.
func (h *Handler) standingGrant(req *request, a authority.Authorization, from exchanged, p authority.Policy, mode authority.PodMode) authority.Grant {
	expires := from.expires
	if mode == authority.PodsWatched {
		expires = req.at.Add(h.Settings().RefreshTTL)
	}
	return authority.Grant{
		ID: authority.NewID(req.at), ClientID: a.Client.ID, Subject: from.subject, Scopes: p.Scopes, Resources: a.Target.ResourceIDs(),
		Evidence: from.proof.Evidence(), State: authority.GrantActive, CreatedAt: req.at, ExpiresAt: expires,
	}
}

// childGrant is a grant below that of the subject token. Nothing is stored: it
// names its ancestors and dies with them.
func childGrant(req *request, a authority.Authorization, from exchanged) (authority.Grant, error) {
	if len(from.token.Lineage) >= authority.MaxLineage {
		return authority.Grant{}, oauth.Errorf(oauth.InvalidRequest, "the token has been exchanged too often: at most %d times in a row", authority.MaxLineage)
	}
	parent := authority.Ancestor{GrantID: from.token.GrantID, ClientID: from.token.ClientID}
	return authority.Grant{
		ID: authority.NewID(req.at), Lineage: append(slices.Clone(from.token.Lineage), parent), ClientID: a.Client.ID, Subject: from.subject,
		Scopes: a.Target.Scopes, Resources: a.Target.ResourceIDs(), State: authority.GrantActive, CreatedAt: req.at, ExpiresAt: from.expires,
	}, nil
}
