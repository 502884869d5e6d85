package kubernetes

import (
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// A TokenReview, as far as a webhook needs it. Kubernetes adds members in later
// versions, so unknown ones are ignored.

const (
	apiVersion = "authentication.k8s.io/v1"
	kind       = "TokenReview"
	// prefix begins every name that we give: none of them is one that Kubernetes
	// keeps for itself (system:), or that another authenticator gives.
	prefix = "signalbox:"
)

type answer struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Status     status `json:"status"`
}

// status has no audiences: then the API server takes the token for one for itself,
// which its own audience, the cluster, says.
type status struct {
	Authenticated bool   `json:"authenticated"`
	User          *user  `json:"user,omitempty"`
	Error         string `json:"error,omitempty"`
}

type user struct {
	Username string   `json:"username"`
	Groups   []string `json:"groups,omitempty"`
	Extra    extra    `json:"extra"`
}

// extra is what the API server's audit log says beside the name. The first member has
// the form that Kubernetes gives to its own tokens' ids.
type extra struct {
	CredentialID [1]string `json:"authentication.kubernetes.io/credential-id"`
	GrantID      [1]string `json:"signalbox.dev/grant-id"`
	Policy       []string  `json:"signalbox.dev/policy,omitempty"`
}

func statusOf(token *issue.AccessToken) status {
	u := &user{
		Username: prefix + token.Subject.ID,
		Extra:    extra{CredentialID: [1]string{"JTI=" + token.ID.String()}, GrantID: [1]string{token.GrantID.String()}},
	}
	for _, group := range token.Groups {
		u.Groups = append(u.Groups, prefix+group)
	}
	if token.Policy != "" {
		u.Extra.Policy = []string{token.Policy}
	}
	return status{Authenticated: true, User: u}
}

var errNoReview = oauth.Errorf(oauth.InvalidRequest, "the request body is not a TokenReview")

// parse gives the token that a TokenReview asks about. Its audiences are those of the
// API server, which are not ours to compare.
func parse(body []byte) (token string, err error) {
	review, err := jose.ParseClaims(body)
	if err != nil {
		return "", errNoReview.Because(err)
	}
	version, _, err := review.String("apiVersion")
	if err != nil || version != apiVersion {
		return "", oauth.Errorf(oauth.InvalidRequest, "apiVersion must be %s: start the API server with --authentication-token-webhook-version=v1", apiVersion)
	}
	if got, _, err := review.String("kind"); err != nil || got != kind {
		return "", oauth.Errorf(oauth.InvalidRequest, "kind must be %s", kind)
	}
	spec, _, err := review.Object("spec")
	if err != nil {
		return "", errNoReview.Because(err)
	}
	if token, _, err = spec.String("token"); err != nil || token == "" {
		return "", oauth.Errorf(oauth.InvalidRequest, "spec.token is missing").Because(err)
	}
	return token, nil
}
