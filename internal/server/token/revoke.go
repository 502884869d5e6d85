// RFC 7009: a client gives back a token of its own. A refresh token ends its
// grant and everything that came from it; an access token ends alone.
package token

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Revocation is POST /revoke (RFC 7009 §2).
func (h *Handler) Revocation(w http.ResponseWriter, r *http.Request) {
	req := &request{at: h.Now()}
	if err := h.revoke(r, req); err != nil {
		h.recordRefusal(r.Context(), req, err)
		httpx.Error(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

func (h *Handler) revoke(r *http.Request, req *request) error {
	ctx := r.Context()
	var err error
	if req.form, err = httpx.ReadForm(r); err != nil {
		return err
	}
	if err := h.authenticate(r, req); err != nil {
		return err
	}
	raw := req.form.Get("token")
	if raw == "" {
		return oauth.Errorf(oauth.InvalidRequest, "token is missing")
	}
	// token_type_hint is not needed: the token itself says what it is. A wrong
	// hint therefore changes nothing (RFC 7009 §2.1).
	if strings.HasPrefix(raw, string(oauth.PrefixRefreshToken)) {
		return h.revokeRefresh(ctx, req, raw)
	}
	token, err := h.Tokens.Authenticate(raw)
	// The token itself has ended: that may not be on record.
	again := errors.Is(err, issue.ErrRevoked) && h.Tokens.Revoked([]authority.Link{{Kind: authority.RevokeToken, Key: token.ID.String()}})
	if err != nil && !again || token.ClientID != req.client.ID {
		return nil // nothing of this client's, so nothing to do (RFC 7009 §2.2)
	}
	if !again {
		if err := h.Ends.spend(req.client.ID, token.Expires); err != nil {
			return err
		}
	}
	return h.Endings.EndToken(ctx, token.ID, token.Expires, authority.Event{
		Type: authority.EventTokenRevoked, At: req.at, ClientID: req.client.ID, Subject: token.Subject,
		GrantID: token.GrantID, TokenID: token.ID, TokenHash: issue.HashOf(raw), Assertion: req.assertion, Reason: "revoked by its client",
	})
}

func (h *Handler) revokeRefresh(ctx context.Context, req *request, raw string) error {
	token, err := h.Refresh.Parse(raw)
	if err != nil {
		return nil
	}
	grant, err := h.Grants.Grant(ctx, token.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if grant.ClientID != req.client.ID {
		return nil
	}
	return h.endGrant(ctx, grant, authority.EventGrantEnded, "refresh token revoked by its client", req.at)
}
