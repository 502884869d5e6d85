// OpenID Connect Core §5.5: the claims parameter.
package authorize

import (
	"encoding/json"
	"slices"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// maxClaims is the longest claims parameter, in bytes.
const maxClaims = 4096

// requestedClaims is what a claims parameter asks for, as far as we know it.
type requestedClaims struct {
	person  authority.RequestedClaims
	subject string // whom the ID token has to be about; empty for anybody
}

// wish is what is asked of one claim; the zero value is null.
type wish struct {
	Essential bool     `json:"essential"`
	Value     string   `json:"value"`
	Values    []string `json:"values"`
}

// readClaims reads the parameter. Claims that we do not know are ignored, as
// OpenID Connect Core §5.5 asks, and so are those that the client's registered
// scopes would not open: nobody gets by name what they may not get by scope.
func readClaims(text string, client authority.Client) (asked requestedClaims, err error) {
	if text == "" {
		return requestedClaims{}, nil
	}
	bad := oauth.Errorf(oauth.InvalidRequest, "claims must be a JSON object with the members userinfo and id_token")
	whole, err := jose.ParseClaims([]byte(text))
	if err != nil {
		return requestedClaims{}, bad.Because(err)
	}
	var names [2][]string
	for i, place := range []string{"userinfo", "id_token"} {
		raw, ok := whole.Raw(place)
		if !ok || string(raw) == "null" {
			continue
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			return requestedClaims{}, bad.Because(err)
		}
		for name := range members {
			names[i] = append(names[i], name)
		}
		for _, name := range []string{"sub", "acr"} {
			var w wish
			member, ok := members[name]
			if !ok {
				continue
			}
			if err := json.Unmarshal(member, &w); err != nil {
				return requestedClaims{}, oauth.Errorf(oauth.InvalidRequest, "claims asks for %s with a value that it cannot have", name).Because(err)
			}
			switch {
			case name == "sub" && w.Value != "":
				asked.subject = w.Value
			case name == "acr" && w.Essential:
				if w.Value != "" {
					w.Values = []string{w.Value}
				}
				if len(w.Values) > 0 && !slices.ContainsFunc(authority.ACRs, func(acr string) bool { return slices.Contains(w.Values, acr) }) {
					return requestedClaims{}, oauth.Errorf(oauth.UnmetAuthentication, "no sign-in here has an acr that is asked for as essential")
				}
			}
		}
	}
	asked.person = authority.RequestedClaims{UserInfo: names[0], IDToken: names[1]}.Only(func(c authority.PersonClaim) bool { return client.Scopes.Has(c.Scope) })
	return asked, nil
}
