// OpenID Connect Core §5.3: UserInfo, with the bearer rules of RFC 6750.
package token

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// UserInfo is GET and POST /userinfo.
func (h *Handler) UserInfo(w http.ResponseWriter, r *http.Request) {
	answer, err := h.userInfo(r)
	if err != nil {
		challenge(w, err)
		httpx.Error(w, r, err)
		return
	}
	httpx.JSON(w, http.StatusOK, answer)
}

func (h *Handler) userInfo(r *http.Request) (map[string]any, error) {
	raw, err := bearer(r)
	if err != nil {
		return nil, err
	}
	token, user, err := h.Tokens.Accept(r.Context(), raw, h.Settings().URL)
	switch {
	case errors.Is(err, issue.ErrAudience): // openid is what adds the issuer to the audience
		return nil, errNoOpenID
	case errors.Is(err, issue.ErrInactive):
		return nil, errBearer.Because(err)
	case err != nil:
		return nil, err
	case !token.Scopes.Has(oauth.ScopeOpenID):
		return nil, errNoOpenID
	case token.Subject.Kind != authority.SubjectUser:
		return nil, errBearer
	}
	claims := issue.ClaimsOf(user, token.Scopes, token.UserInfo)
	claims["sub"] = user.ID
	return claims, nil
}

var errBearer = oauth.Errorf(oauth.InvalidToken, "the access token is not valid")

var errNoOpenID = oauth.Errorf(oauth.InsufficientScope, "UserInfo needs a token with the scope openid")

// errNoBearer is answered without an error code (RFC 6750 §3).
var errNoBearer = oauth.Errorf(oauth.InvalidToken, "an access token is needed")

// bearer reads the access token from the header or, on POST, from the form
// (RFC 6750 §2). A token in the URL is refused: it would be in every log.
func bearer(r *http.Request) (string, error) {
	query, err := httpx.ReadQuery(r)
	if err != nil {
		return "", err
	}
	if query.Has("access_token") {
		return "", oauth.Errorf(oauth.InvalidRequest, "the access token must not be in the URL")
	}
	var fromBody string
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil &&
		r.Method == http.MethodPost && mediaType == "application/x-www-form-urlencoded" {
		form, err := httpx.ReadForm(r)
		if err != nil {
			return "", err
		}
		fromBody = form.Get("access_token")
	}
	headers := r.Header["Authorization"]
	switch {
	case len(headers) > 1, len(headers) == 1 && fromBody != "":
		return "", oauth.Errorf(oauth.InvalidRequest, "more than one access token was sent")
	case fromBody != "":
		return fromBody, nil
	case len(headers) == 0:
		return "", errNoBearer
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errNoBearer
	}
	return token, nil
}

func challenge(w http.ResponseWriter, err error) {
	refused := oauth.AsError(err)
	value := `Bearer realm="signalbox"`
	if refused != errNoBearer {
		value += `, error="` + string(refused.Code) + `", error_description="` + refused.Description + `"`
	}
	if refused.Code != oauth.TemporarilyUnavailable {
		w.Header().Set("WWW-Authenticate", value)
	}
}
