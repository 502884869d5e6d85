package kubernetes

import (
	"errors"
	"net/http"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var (
	errNoCredentials = oauth.Errorf(oauth.InvalidToken, "the caller must authenticate: HTTP Basic with client id and secret, or an access token of its own")
	errBearer        = oauth.Errorf(oauth.InvalidToken, "the access token is not valid here: ask for one for /kubernetes/tokenreview with client_credentials")
)

// authenticate is the client that asks: by its secret, as at /introspect, or by an
// access token of its own, which leaves nothing static in the API server's kubeconfig.
func (h *Handler) authenticate(r *http.Request) (clientID string, err error) {
	headers := r.Header["Authorization"]
	switch {
	case len(headers) == 0:
		return "", errNoCredentials
	case len(headers) > 1:
		return "", oauth.Errorf(oauth.InvalidRequest, "more than one Authorization header")
	}
	scheme, raw, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		client, _, err := h.Clients.Authenticate(r, httpx.Params{})
		return client.ID, err
	}
	token, _, err := h.Tokens.Accept(r.Context(), raw, authority.TokenReviewAudience(h.Settings().URL))
	switch {
	case errors.Is(err, issue.ErrInactive):
		return "", errBearer.Because(err)
	case err != nil:
		return "", err
	case token.Subject.Kind != authority.SubjectClient || token.Subject.ID != token.ClientID:
		return "", errBearer.Because(errors.New("it is about " + token.Subject.ID + ", and not the client itself"))
	}
	req := httpx.RequestOf(r.Context())
	req.Log.ClientID, req.Log.Proved = token.ClientID, true
	return token.ClientID, nil
}

// challenge names the schemes (RFC 9110 §11.6.1). The one for a wrong secret is
// httpx.Error's.
func challenge(w http.ResponseWriter, err error) {
	refused := oauth.AsError(err)
	switch {
	case refused == errNoCredentials:
		w.Header()["Www-Authenticate"] = []string{`Basic realm="signalbox", charset="UTF-8"`, `Bearer realm="signalbox"`}
	case refused.Code == oauth.InvalidToken:
		w.Header().Set("WWW-Authenticate", `Bearer realm="signalbox", error="`+string(refused.Code)+`"`)
	}
}
