// RFC 7662: token introspection. A resource server sees only tokens that are
// meant for it; about every other it learns what it learns about noise.
package token

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Introspect is POST /introspect (RFC 7662 §2).
func (h *Handler) Introspect(w http.ResponseWriter, r *http.Request) {
	req := &request{at: h.Now()}
	body, err := h.introspect(r, req)
	if err != nil {
		h.recordRefusal(r.Context(), req, err)
		httpx.Error(w, r, err)
		return
	}
	httpx.RawJSON(w, http.StatusOK, body)
}

var inactive = []byte(`{"active":false}`)

func (h *Handler) introspect(r *http.Request, req *request) ([]byte, error) {
	ctx := r.Context()
	var err error
	if req.form, err = httpx.ReadForm(r); err != nil {
		return nil, err
	}
	req.now = h.Now()
	if err := h.authenticate(r, req); err != nil {
		return nil, err
	}
	if req.client.IsPublic() {
		// Anybody can claim to be a public client (RFC 7662 §2.1).
		return nil, oauth.Errorf(oauth.InvalidClient, "introspection needs a client that authenticates")
	}
	raw := req.form.Get("token")
	if raw == "" {
		return nil, oauth.Errorf(oauth.InvalidRequest, "token is missing")
	}
	if strings.HasPrefix(raw, string(oauth.PrefixRefreshToken)) {
		return h.introspectRefresh(ctx, req, raw)
	}
	token, _, err := h.Tokens.Accept(ctx, raw, issue.AnyAudience)
	if errors.Is(err, issue.ErrInactive) {
		return inactive, nil
	}
	if err != nil {
		return nil, err
	}
	may, err := h.mayIntrospect(ctx, req.client, token)
	if err != nil || !may {
		return inactive, err
	}
	head := `{"active":true,"token_type":"Bearer",`
	if token.Bound { // RFC 9449 §6.2: a resource server must not take it for a bearer token
		head = `{"active":true,"token_type":"DPoP",`
	}
	body := make([]byte, 0, len(head)+len(token.Claims))
	return append(append(body, head...), token.Claims[1:]...), nil
}

func (h *Handler) mayIntrospect(ctx context.Context, client authority.Client, token *issue.AccessToken) (bool, error) {
	if token.ClientID == client.ID {
		return true, nil
	}
	for _, id := range token.Audience {
		resource, err := h.Directory.Resource(ctx, id)
		if errors.Is(err, authority.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if resource.MayIntrospect(client.ID) {
			return true, nil
		}
	}
	return false, nil
}

// introspectRefresh answers the client that holds the refresh token, and
// nobody else. Asking neither rotates it nor counts as use.
func (h *Handler) introspectRefresh(ctx context.Context, req *request, raw string) ([]byte, error) {
	if err := h.Endings.Follower.Fresh(); err != nil {
		return nil, err
	}
	token, err := h.Refresh.Parse(raw)
	if err != nil {
		return inactive, nil
	}
	grant, err := h.Grants.Grant(ctx, token.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return inactive, nil
	}
	if err != nil {
		return nil, err
	}
	current := grant.Present(h.Refresh, token, req.now, 0) == authority.Rotate
	if grant.ClientID != req.client.ID || !current || h.Endings.Follower.View.Revoked(grant.Links()) {
		return inactive, nil
	}
	_, err = h.Directory.Alive(ctx, grant.ClientID, grant.Subject)
	if errors.Is(err, authority.ErrEnded) {
		return inactive, nil
	}
	if err != nil {
		return nil, err
	}
	expires := grant.ExpiresAt
	if grant.Refresh.IdleExpiresAt.Before(expires) {
		expires = grant.Refresh.IdleExpiresAt
	}
	return refreshActive(grant, expires)
}

func refreshActive(g authority.Grant, expires time.Time) ([]byte, error) {
	answer := struct {
		Active       bool              `json:"active"`
		ClientID     string            `json:"client_id"`
		Scope        string            `json:"scope,omitempty"`
		Subject      string            `json:"sub"`
		GrantID      string            `json:"grant_id"`
		Expires      int64             `json:"exp"`
		Confirmation map[string]string `json:"cnf,omitempty"`
	}{Active: true, ClientID: g.ClientID, Scope: g.Scopes.String(), Subject: g.Subject.ID, GrantID: g.ID.String(), Expires: expires.Unix()}
	if !g.Confirmation.IsZero() {
		answer.Confirmation = map[string]string{"jkt": g.Confirmation.JKT} // RFC 9449 §6.1
	}
	return json.Marshal(answer)
}
