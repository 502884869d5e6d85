package authorize

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// codeLife is the longest life of a code, whatever is configured (docs/security/threats.md B 28).
const codeLife = time.Minute

func (h *Handler) codeTTL() time.Duration { return min(h.Settings().CodeTTL, codeLife) }

// hasConsented says whether the person need not be asked again. A client that
// others could pose as is asked about every time (RFC 8252 §8.6).
func (h *Handler) hasConsented(r *http.Request, req request, s authority.Session, now time.Time) (bool, error) {
	if req.prompt.consent || req.mayBePosed() {
		return false, nil
	}
	if err := h.Endings.Follower.Fresh(); err != nil { // an epoch ends grants and leaves their rows as they are
		return false, err
	}
	return h.Grants.Consented(r.Context(), authority.Grant{
		ClientID: req.client.ID, Subject: s.Subject, Scopes: req.target.Scopes, Resources: req.target.ResourceIDs(), Claims: req.claims.person,
		RedirectDigest: req.client.RedirectDigest(req.redirectURI),
	}, h.Epoch(req.client.ID, s.Subject.ID), now)
}

// consentPage is what a consent page was shown for.
type consentPage struct {
	Query   string `json:"query"`
	Session string `json:"session"` // whom it was shown to
	Grant   string `json:"grant"`   // id of the grant to be: the same form cannot make two
	Outcome []byte `json:"outcome"` // hash of what the page says would be given
}

const stepConsent = "consent"

func (h *Handler) showConsent(w http.ResponseWriter, r *http.Request, req request, s authority.Session, user authority.User, now time.Time) {
	sealed, err := h.Pages.Seal(w, r, stepConsent, consentPage{
		Query: req.query(), Session: s.ID.String(), Grant: authority.NewID(now).String(), Outcome: req.outcome(),
	})
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	about, resources := permissions(req.target, req.claims.person)
	h.Pages.Show(w, r, http.StatusOK, ui.Consent{
		Flow: sealed, ClientName: nameOf(req.client), Username: user.Username,
		Where: whereTo(req.redirectURI), Unverified: req.mayBePosed(), About: about, Resources: resources,
	})
}

// outcome is a hash of what consent to the request gives, and of where the
// answer goes. Both follow from the client as it is, so the same request may
// come to something else ten minutes later.
func (req request) outcome() []byte {
	redirects := req.client.RedirectDigest(req.redirectURI)
	given := append([]string{hex.EncodeToString(redirects[:]), req.redirectURI, req.target.Scopes.String(), strings.Join(req.claims.person.Beyond(req.target.Scopes), " ")}, req.target.ResourceIDs()...)
	sum := sha256.Sum256([]byte(strings.Join(given, "\n"))) // none of them has a line break in it
	return sum[:]
}

// postConsent takes the person's answer.
func (h *Handler) postConsent(w http.ResponseWriter, r *http.Request) {
	now := h.Now()
	form, err := httpx.ReadForm(r)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	var page consentPage
	if !h.Pages.Open(w, r, form, stepConsent, &page) {
		return
	}
	req, ok := h.again(w, r, page.Query)
	if !ok {
		return
	}
	session, _, err := h.Sessions.Of(r, now)
	switch {
	case errors.Is(err, authority.ErrNotFound) || (err == nil && session.ID.String() != page.Session):
		// Signed out in the meantime, or as somebody else: whoever it is now
		// has not seen this page.
		browser.Go(w, h.Pages.Base()+"/authorize?"+req.query())
		return
	case err != nil:
		h.Pages.Fail(w, r, err)
		return
	}
	grantID, err := authority.ParseID(page.Grant)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	switch form.Get("decision") {
	case "allow":
		// What is allowed must be what was shown (docs/security/threats.md A 22). A page that
		// is out of step is shown again; a refusal holds whatever was shown.
		if !bytes.Equal(req.outcome(), page.Outcome) {
			browser.Go(w, h.Pages.Base()+"/authorize?"+req.query())
			return
		}
		h.approve(w, r, req, session, grantID, now)
	case "deny":
		h.deny(w, r, req, session, grantID, now)
	default:
		h.Pages.Problem(w, r, browser.Problem{
			Status: http.StatusBadRequest, Heading: "Neither allowed nor denied", Text: "Go back and choose one of the two.",
		})
	}
}

// deny tells the client no. The person may have allowed it on the same page a
// moment before: the last answer holds, so what came of the first ends.
func (h *Handler) deny(w http.ResponseWriter, r *http.Request, req request, s authority.Session, grantID authority.ID, now time.Time) {
	r, done := browser.Lasting(r)
	defer done()
	e := browser.Event(r, authority.EventConsentDenied, now)
	e.ClientID, e.Subject, e.SessionID, e.Scope = req.client.ID, s.Subject, s.ID, req.target.Scopes.String()
	ended, err := h.endAllowed(r.Context(), grantID, &e)
	if err == nil && !ended {
		err = h.Record(r.Context(), e)
	}
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	h.answerError(w, r, req.destination, oauth.Errorf(oauth.AccessDenied, "the person did not allow it"))
}

// endAllowed ends the grant that the same page has made before, if it has, and
// says whether it did. If not, the caller has something to record.
func (h *Handler) endAllowed(ctx context.Context, id authority.ID, e *authority.Event) (bool, error) {
	grant, err := h.Grants.Grant(ctx, id)
	if errors.Is(err, authority.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.GrantID, e.Reason = id, "denied after it was allowed"
	if grant.State == authority.GrantEnded {
		return false, nil
	}
	return h.Endings.EndGrant(ctx, id, *e)
}

// approve makes the grant and hands out its code. The grant is stored and
// recorded before the code leaves.
func (h *Handler) approve(w http.ResponseWriter, r *http.Request, req request, s authority.Session, grantID authority.ID, now time.Time) {
	r, done := browser.Lasting(r)
	defer done()
	code := authority.NewAuthorizationCode(grantID)
	expires := now.Add(h.codeTTL())
	grant := authority.Grant{
		ID: grantID, ClientID: req.client.ID, Subject: s.Subject,
		Scopes: req.target.Scopes, Resources: req.target.ResourceIDs(),
		SessionID: s.ID, AuthTime: s.AuthTime, AMR: s.AMR, Nonce: req.nonce, Claims: req.claims.person, RedirectDigest: req.client.RedirectDigest(req.redirectURI),
		Code:  authority.Code{Hash: code.Hash(), Challenge: req.challenge, ExpiresAt: expires},
		State: authority.GrantPending, CreatedAt: now, ExpiresAt: expires, // RedeemCode sets the real one
	}
	if req.redirectSent {
		grant.Code.RedirectURI = req.redirectURI
	}
	if !grant.Scopes.Has(oauth.ScopeOfflineAccess) { // OpenID Connect Core §11
		grant.Evidence = authority.SessionEvidence(s.ID)
	}
	switch err := h.Grants.CreateGrant(r.Context(), grant); {
	case errors.Is(err, authority.ErrEnded): // the person has signed out meanwhile
		browser.Go(w, h.Pages.Base()+"/authorize?"+req.query())
		return
	case errors.Is(err, authority.ErrExists):
		// The grant's id travelled in the form, so this is the same answer given
		// twice. A double click shows what comes of the second, and access was
		// given: so begin once more. It cannot go round, since only a click on the
		// page comes by here.
		browser.Go(w, h.Pages.Base()+"/authorize?"+req.signedIn())
		return
	case err != nil:
		h.Pages.Fail(w, r, err)
		return
	}
	e := browser.Event(r, authority.EventGrantCreated, now)
	e.ClientID, e.Subject, e.SessionID, e.GrantID = grant.ClientID, grant.Subject, grant.SessionID, grant.ID
	e.GrantType, e.Scope, e.Audience, e.ExpiresAt = string(oauth.AuthorizationCode), grant.Scopes.String(), grant.Resources, grant.ExpiresAt
	if err := h.Record(r.Context(), e); err != nil {
		h.Pages.Fail(w, r, err) // the grant expires with its code, which nobody has
		return
	}
	h.answer(w, r, req.destination, map[string][]string{"code": {code.Reveal()}})
}
